package audit

import (
	"context"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
)

const (
	maxBatch = 256 // bounds the memory of one write
	crowdFor = 64  // batches of one record until the log counts as quiet again
)

// pending is a record that waits to be written. It belongs to its caller,
// except while it is in the queue or in a batch.
type pending struct {
	body []byte // all of the line after atMs
	head Head
	err  error
	job  func() error // what its caller does as the leader, instead of writing a record
	lead bool         // under Log.mu: its caller was made the leader
	wake chan bool    // true: lead; false: head and err are set
}

// Append adds one record. When it returns, the record is in the file; when it
// fails, it is not (but see AppendSync for Config.Sync). Records of concurrent
// callers are written together. A context that ends while the record waits
// for its turn takes it back.
func (l *Log) Append(ctx context.Context, r Record) (Head, error) {
	head, err := l.append(ctx, &r)
	if err == nil && l.cfg.Sync {
		err = l.syncTo(head.Seq)
	}
	return head, err
}

// AppendSync is Append and waits until the record is on disk. When only that
// fails, the record may stay in the log.
func (l *Log) AppendSync(ctx context.Context, r Record) (Head, error) {
	head, err := l.append(ctx, &r)
	if err == nil {
		err = l.syncTo(head.Seq)
	}
	return head, err
}

func (l *Log) append(ctx context.Context, r *Record) (Head, error) {
	if err := ctx.Err(); err != nil {
		return Head{}, err
	}
	p := l.pool.Get().(*pending)
	defer l.pool.Put(p)
	p.head, p.err, p.job, p.lead = Head{}, nil, nil, false
	var err error
	if p.body, err = appendBody(p.body[:0], r); err != nil {
		return Head{}, err
	}
	l.queueUp(ctx, p)
	return p.head, p.err
}

// asLeader runs job with the log's lock held: nobody appends meanwhile.
func (l *Log) asLeader(ctx context.Context, job func() error) error {
	p := l.pool.Get().(*pending)
	defer l.pool.Put(p)
	p.head, p.err, p.job, p.lead = Head{}, nil, job, false
	l.queueUp(ctx, p)
	p.job = nil
	return p.err
}

// queueUp returns when p is done.
func (l *Log) queueUp(ctx context.Context, p *pending) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		p.err = fmt.Errorf("audit: append: %w", fs.ErrClosed)
		return
	}
	l.inflight.Add(1)
	defer l.inflight.Done()
	l.queue = append(l.queue, p)
	lead := !l.leading
	l.leading = true
	l.mu.Unlock()

	if lead || l.wait(ctx, p) {
		l.lead(ctx, p)
	}
}

// wait returns true when p's caller has to lead, false when p is done.
func (l *Log) wait(ctx context.Context, p *pending) (lead bool) {
	given := ctx.Done()
	if given == nil { // as an outcome's is: a select of one case costs more
		return <-p.wake
	}
	select {
	case lead := <-p.wake:
		return lead
	case <-given:
	}
	l.mu.Lock()
	i := slices.Index(l.queue, p)
	if i < 0 {
		l.mu.Unlock()
		return <-p.wake // being written: false comes at once
	}
	l.queue = slices.Delete(l.queue, i, i+1)
	p.err = ctx.Err()
	if p.lead {
		<-p.wake
		l.handOver()
	}
	l.mu.Unlock()
	return false
}

// handOver makes the first in the queue the leader. Called under l.mu by
// whoever leads, whose own record is no longer in the queue.
func (l *Log) handOver() {
	l.leading = len(l.queue) > 0
	if l.leading {
		l.queue[0].lead = true
		l.queue[0].wake <- true
	}
}

// batchSize is how many of the queue one write takes: a job is done alone.
// Called under l.mu.
func (l *Log) batchSize() int {
	most := min(len(l.queue), maxBatch)
	for i, p := range l.queue[:most] {
		if p.job != nil {
			return max(i, 1)
		}
	}
	return most
}

// lead writes the records that wait. p, the leader's own, is the first.
func (l *Log) lead(ctx context.Context, p *pending) {
	if l.crowd > 0 {
		// Whoever is ready to append comes first: one write then serves them
		// all. Not so for one who is alone: yielding wakes an idle processor.
		l.crowd--
		runtime.Gosched()
	}
	if err := l.lock.Lock(ctx); err != nil {
		p.err = fmt.Errorf("audit: lock log: %w", err)
		l.mu.Lock()
		l.queue = slices.Delete(l.queue, 0, 1)
		l.handOver()
		l.mu.Unlock()
		return
	}
	l.mu.Lock()
	n := l.batchSize()
	l.batch = append(l.batch[:0], l.queue[:n]...)
	l.queue = slices.Delete(l.queue, 0, n)
	l.mu.Unlock()

	if n > 1 {
		l.crowd = crowdFor
	}
	var err error
	if p.job != nil {
		err = p.job()
	} else {
		err = l.write(l.batch)
	}
	end := position{l.tail.seq, l.tail.offset}
	if unlock := l.lock.Unlock(); err == nil && unlock != nil {
		// The records are in the file. Closing gives the lock back for sure.
		_ = l.lock.Close()
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && p.job == nil {
		l.written, l.news = end, true
		l.arm()
		l.armSigning()
		l.wakeFollowers()
	}
	p.err = err
	for _, other := range l.batch[1:] {
		other.err = err
		other.wake <- false
	}
	clear(l.batch) // they are their callers' again
	l.handOver()
}

package audit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"moldable.sh/aivault/internal/durable"
)

// UnknownOutcome is the code of a call.finished that another process wrote,
// because the one that made the call was gone. It is no code of the API.
const UnknownOutcome = "unknown_outcome"

// How the records of calls look in the log. None of it can stand inside a JSON
// string, where its quotes would be escaped.
var (
	allowedMark  = []byte(`"event":"` + CallAllowed + `"`)
	sessionMark  = []byte(`"session":"`)
	finishedMark = []byte(`"event":"` + CallFinished + `","requestId":"`)
)

// sessionName is how rand.Text names one. Anything else in the directory is
// left alone.
var sessionName = regexp.MustCompile(`^[A-Z2-7]{26}$`)

// Recover writes an outcome for each call that a process left open which lives
// no more, and says how many there were. Sessions of processes that live are
// not touched. It may be called by several processes at once, and again after
// it was interrupted: each call gets its outcome once.
func (l *Log) Recover(ctx context.Context, dir string) (calls int, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("audit: look for sessions: %w", err)
	}
	var sessions []string
	for _, e := range entries {
		if sessionName.MatchString(e.Name()) && e.Type().IsRegular() {
			sessions = append(sessions, e.Name())
		}
	}
	for some := range slices.Chunk(sessions, recoverAtOnce) {
		n, failed := l.recoverSessions(ctx, dir, some...)
		calls += n
		if failed != nil && ctx.Err() == nil {
			failed = nil // one that cannot be recovered keeps no other from it
			for _, id := range some {
				n, e := l.recoverSessions(ctx, dir, id)
				if calls += n; e != nil {
					failed = errors.Join(failed, fmt.Errorf("audit: calls of session %s: %w", id, e))
				}
			}
		}
		if err = errors.Join(err, failed); ctx.Err() != nil {
			return calls, errors.Join(err, ctx.Err())
		}
	}
	return calls, err
}

// recoverAtOnce is how many sessions one walk of the log is for. Each is locked
// meanwhile, which takes a descriptor.
const recoverAtOnce = 64

func (l *Log) recoverSessions(ctx context.Context, dir string, ids ...string) (calls int, err error) {
	from := map[string]Head{}
	var gone []string
	for _, id := range ids {
		path := filepath.Join(dir, id)
		lock, e := durable.TryAcquire(path)
		if e != nil {
			return 0, e
		}
		if lock == nil {
			continue // it lives, or another recovers it
		}
		defer func() { err = errors.Join(err, lock.Release()) }()
		content, e := readSession(path)
		if e != nil {
			return 0, e
		}
		gone = append(gone, path)
		// A session without content never began a call: its process was killed
		// before, or it was another's and is gone, and TryAcquire made the file.
		if len(content) > 0 {
			from[id] = decodePosition(content)
		}
	}
	if len(from) > 0 {
		open, err := l.openCalls(ctx, from)
		if err != nil {
			return 0, err
		}
		// In the order of the log. Whoever is killed in between leaves the
		// rest to the next, who finds what is written.
		for _, r := range slices.SortedFunc(maps.Values(open), func(a, b Line) int { return cmp.Compare(a.Seq, b.Seq) }) {
			if head, err := l.Append(ctx, unknown(&r)); err != nil && head.Seq == 0 {
				return calls, err
			}
			calls++
		}
		if err := l.Sync(); err != nil {
			return calls, err
		}
	}
	for _, path := range gone {
		err = errors.Join(err, os.Remove(path))
	}
	return calls, err
}

func readSession(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(f, 2*positionSize))
	return content, errors.Join(err, f.Close())
}

// unknown is the outcome of a call of which nothing more is known.
func unknown(allowed *Line) Record {
	r := allowed.Record
	r.Event, r.Session, r.Secrets = CallFinished, "", nil
	r.Code, r.Reason = UnknownOutcome, "the process that made the call was gone before it could say how it ended"
	return r
}

// openCalls finds the calls of sessions that the log has as allowed and not as
// finished, by request id. Nothing of a session is open before its position.
func (l *Log) openCalls(ctx context.Context, from map[string]Head) (map[string]Line, error) {
	first := slices.MinFunc(slices.Collect(maps.Values(from)), func(a, b Head) int { return cmp.Compare(a.Seq, b.Seq) })
	open := map[string]Line{}
	err := l.walkFrom(first, func(line []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if request, ok := finishedOf(line); ok {
			delete(open, request)
			return nil
		}
		if !bytes.Contains(line, allowedMark) {
			return nil
		}
		_, session, _ := bytes.Cut(line, sessionMark)
		id, _, _ := bytes.Cut(session, []byte(`"`))
		if _, mine := from[string(id)]; !mine {
			return nil
		}
		r, err := ParseLine(line)
		if err == nil {
			open[r.RequestID] = r
		}
		return err
	})
	return open, err
}

// finishedOf is the request whose outcome a line records.
func finishedOf(line []byte) (request string, ok bool) {
	_, rest, ok := bytes.Cut(line, finishedMark)
	if !ok {
		return "", false
	}
	id, _, ok := bytes.Cut(rest, []byte{'"'})
	return string(id), ok
}

// holds says whether the log has, after from, the first record of r's call,
// and r itself.
func (l *Log) holds(from Head, r *Record) (first, this bool, err error) {
	request := []byte(`,"requestId":"` + r.RequestID + `"`)
	itself := []byte(`"event":"` + r.Event + `"`)
	err = l.walkFrom(from, func(line []byte) error {
		if bytes.Contains(line, request) {
			first = first || bytes.Contains(line, allowedMark)
			this = this || bytes.Contains(line, itself)
		}
		return nil
	})
	return first, this, err
}

// walkFrom walks the log from a position, or, where the log does not hold it
// (it was cut short with the power, or its beginning is no longer kept), from
// its start.
func (l *Log) walkFrom(from Head, fn func(line []byte) error) error {
	each := func(line []byte, _ Head) error { return fn(line) }
	_, err := l.Walk(from, each)
	var chain *ChainError
	if from != (Head{}) && errors.As(err, &chain) {
		_, err = l.Walk(Head{}, each)
	}
	return err
}

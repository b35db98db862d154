package audit

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"moldable.sh/aivault/internal/durable"
)

// How long the tender sleeps when nothing is closed meanwhile: until it tries
// again what failed, and until it looks again for what has become too old.
const (
	tendAgain = 15 * time.Minute
	tendIdle  = time.Hour
)

// packLevel halves the time that gzip takes by default, and makes the files a
// twentieth longer. Under load every byte of the log is compressed in the end,
// so that this is part of what a call costs.
const packLevel = 3

// kick lets the tender look, if there is one: a segment was closed, or may be
// removed by now.
func (l *Log) kick() {
	select {
	case l.wakeTender <- struct{}{}: // never ready where it is nil
	default:
	}
}

// tend works until ctx ends, and sleeps in between.
func (l *Log) tend(ctx context.Context) {
	for {
		var again <-chan time.Time
		if err := l.tendOnce(ctx); err != nil && ctx.Err() == nil {
			if l.cfg.TendFailed != nil {
				l.cfg.TendFailed(err)
			}
			again = time.After(tendAgain)
		} else if l.cfg.Retain > 0 {
			again = time.After(tendIdle)
		}
		select {
		case <-ctx.Done():
			return
		case <-l.wakeTender:
		case <-again:
		}
	}
}

// tendOnce removes what need not be kept, and compresses what is closed.
func (l *Log) tendOnce(ctx context.Context) error {
	return errors.Join(l.prune(ctx), l.pack(ctx))
}

// settled lists the segments that nobody writes to any more, nor reads to find
// the log's end: all but the current one and the one closed last.
func (l *Log) settled() ([]string, error) {
	names, err := segments(l.cfg.Dir)
	if err != nil {
		return nil, err
	}
	// The newest may be what a killed rotation left: then it is empty.
	info, err := os.Lstat(filepath.Join(l.cfg.Dir, names[len(names)-1]))
	if err != nil {
		return nil, fmt.Errorf("audit: tend log: %w", err)
	}
	if info.Size() == 0 {
		names = names[:len(names)-1]
	}
	return names[:max(0, len(names)-2)], nil
}

// pack compresses settled segments, the oldest first.
func (l *Log) pack(ctx context.Context) error {
	names, err := l.settled()
	if err != nil {
		return err
	}
	for _, name := range names {
		info, err := os.Lstat(filepath.Join(l.cfg.Dir, name))
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() > maxPacked {
			continue
		}
		if err == nil {
			err = packSegment(ctx, l.cfg.Dir, name)
		}
		if err != nil {
			return fmt.Errorf("audit: compress %+q: %w", name, err)
		}
	}
	return nil
}

// packSegment replaces a segment by its compressed form. Killed at any point
// it leaves the plain one, the compressed one, or both, of which the plain one
// counts until the next attempt.
func packSegment(ctx context.Context, dir, name string) error {
	path := filepath.Join(dir, name)
	packed := path + packedSuffix
	if err := durable.RemoveTemp(packed); err != nil {
		return err
	}
	plain, size, err := openToRead(dir, name)
	if err != nil {
		return err
	}
	defer plain.Close()
	text := io.NewSectionReader(plain, 0, size)
	temp := "." + name + packedSuffix + ".tmp-" + rand.Text()[:12] // as durable names what it makes
	tempPath := filepath.Join(dir, temp)
	err = compress(ctx, tempPath, text)
	if err == nil {
		// The plain one goes only when the other is known to say the same.
		err = sameText(ctx, dir, temp, text)
	}
	if err == nil {
		err = os.Rename(tempPath, packed)
	}
	if err != nil {
		return errors.Join(err, removeIfThere(tempPath))
	}
	if err := durable.SyncDir(dir); err != nil {
		return err
	}
	if err := removeIfThere(path); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// compress writes text, compressed and synced, to a new file.
func compress(ctx context.Context, path string, text *io.SectionReader) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Chmod(0o600); err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 64<<10)
	zip, err := gzip.NewWriterLevel(w, packLevel)
	if err != nil {
		return err
	}
	if err := eachBlock(ctx, text, func(b []byte) error { _, err := zip.Write(b); return err }); err != nil {
		return err
	}
	if err := errors.Join(zip.Close(), w.Flush()); err != nil {
		return err
	}
	return f.Sync()
}

// sameText says (nil) that a compressed file holds text.
func sameText(ctx context.Context, dir, packed string, text *io.SectionReader) error {
	f, err := openSegment(dir, packed, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	z := &unzipper{file: f, name: packed}
	if err := z.measure(); err != nil {
		return err
	}
	if z.size != text.Size() {
		return z.broken("it is not what was compressed")
	}
	at, buf := int64(0), make([]byte, walkBuffer)
	return eachBlock(ctx, text, func(want []byte) error {
		got := buf[:len(want)]
		if _, err := z.ReadAt(got, at); err != nil {
			return err
		}
		at += int64(len(want))
		if !bytes.Equal(got, want) {
			return z.broken("it is not what was compressed")
		}
		return nil
	})
}

func eachBlock(ctx context.Context, text *io.SectionReader, fn func([]byte) error) error {
	buf := make([]byte, walkBuffer)
	for at := int64(0); at < text.Size(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := text.ReadAt(buf[:min(int64(len(buf)), text.Size()-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		if err := fn(buf[:n]); err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

// prune removes the settled segments that are older than Retain, the oldest
// first, as long as a signed checkpoint says how the last of them ended: from
// there the rest of the chain is proven. It is recorded before it is done, and
// again where it was interrupted.
func (l *Log) prune(ctx context.Context) error {
	if l.cfg.Retain <= 0 || l.cfg.Keep == nil {
		return nil
	}
	needed := l.cfg.Keep()
	if needed == (Head{}) {
		return nil
	}
	names, err := l.settled()
	if err != nil {
		return err
	}
	first := segmentNumber(needed.File)
	names = slices.DeleteFunc(names, func(name string) bool { return segmentNumber(name) >= first })
	old, end, err := l.outlived(names, l.cfg.Clock().Add(-l.cfg.Retain).UnixMilli())
	if err != nil || len(old) == 0 {
		return err
	}
	_, err = l.AppendSync(ctx, Record{Event: LogPruned, Object: end.Head.File, Reason: fmt.Sprintf(
		"older than %v: up to line %d, signed at %s", l.cfg.Retain, end.Head.Seq, time.UnixMilli(end.AtMs).UTC().Format(time.RFC3339))})
	if err != nil {
		return err
	}
	for _, name := range old {
		path := filepath.Join(l.cfg.Dir, name)
		if err := errors.Join(durable.RemoveTemp(path+packedSuffix), removeIfThere(path+packedSuffix), removeIfThere(path)); err != nil {
			return fmt.Errorf("audit: remove %+q: %w", name, err)
		}
		// In this order also on disk: a gap would be no log.
		if err := durable.SyncDir(l.cfg.Dir); err != nil {
			return fmt.Errorf("audit: remove %+q: %w", name, err)
		}
	}
	return nil
}

// outlived returns those of the segments, from the first on, that were closed
// and signed before a time, and the checkpoint with which the last of them
// ends. Without the key it is none.
func (l *Log) outlived(names []string, beforeMs int64) (old []string, end Checkpoint, err error) {
	l.mu.Lock()
	key := l.signer
	l.mu.Unlock()
	if key == nil || len(names) == 0 {
		return nil, Checkpoint{}, nil
	}
	s, err := newNoteSigner(l.cfg.VaultID, key)
	if err != nil {
		return nil, Checkpoint{}, err
	}
	data, err := readCheckpoints(l.cfg.Dir)
	if err != nil {
		return nil, Checkpoint{}, err
	}
	ends := map[string]Checkpoint{} // by segment: the last one
	eachNote(data, func(n signedNote, _ int) bool {
		if n.signedBy(s.verifier) {
			ends[n.Head.File] = n.Checkpoint
		}
		return true
	})
	n := 0
	for n < len(names) && ends[names[n]].Head.Seq > 0 && ends[names[n]].AtMs < beforeMs {
		n++
	}
	if n == 0 {
		return nil, Checkpoint{}, nil
	}
	end = ends[names[n-1]]
	last, whole, err := lastIn(l.cfg.Dir, names[n-1])
	if err != nil {
		return nil, Checkpoint{}, err
	}
	if !whole || !last.closed || last.head() != end.Head {
		return nil, Checkpoint{}, &ChainError{File: names[n-1], Why: "its last line is not the one that was signed as it was closed"}
	}
	return names[:n], end, nil
}

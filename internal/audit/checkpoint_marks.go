package audit

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Marks returns what key has signed of the log: the newest checkpoint, and the
// newest that closed a segment which is not compressed; nil for none. Nothing
// says that the log holds them: see Holds, and Walk.
func (l *Log) Marks(key ed25519.PublicKey) (last, closing *Checkpoint, err error) {
	v, err := verifierOf(l.cfg.VaultID, key)
	if err != nil {
		return nil, nil, err
	}
	data, err := readCheckpoints(l.cfg.Dir)
	if err != nil {
		return nil, nil, err
	}
	if n, _ := newest(data, v, nil); n != nil {
		last = &n.Checkpoint
	}
	names, err := segments(l.cfg.Dir)
	if err != nil {
		return nil, nil, err
	}
	current := names[len(names)-1]
	sizes := map[string]int64{} // of plain segments; 0 for others
	atEnd := func(n signedNote) bool {
		if n.Head.File == current {
			return false
		}
		size, known := sizes[n.Head.File]
		if !known {
			if info, err := os.Lstat(filepath.Join(l.cfg.Dir, n.Head.File)); err == nil {
				size = info.Size()
			}
			sizes[n.Head.File] = size
		}
		return n.Head.Offset == size
	}
	if n, _ := newest(data, v, atEnd); n != nil {
		closing = &n.Checkpoint
	}
	return last, closing, nil
}

// Holds says (nil) that the log holds the line that ends at a position. Of a
// compressed segment it believes that: reading it is left to Verify. A line
// that is not there is a *ChainError.
func (l *Log) Holds(at Head) error {
	names, err := segments(l.cfg.Dir)
	if err != nil {
		return err
	}
	_, err = os.Lstat(filepath.Join(l.cfg.Dir, at.File))
	if errors.Is(err, fs.ErrNotExist) && segmentNumber(at.File) > 0 && exists(l.cfg.Dir, at.File) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("audit: stat log: %w", err)
	}
	_, err = l.resume(names, at)
	return err
}

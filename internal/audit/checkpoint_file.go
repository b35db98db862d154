package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"

	"moldable.sh/aivault/internal/durable"
)

const (
	checkpointsName = "checkpoints"
	keyName         = "key.pub"

	// MaxCheckpoints bounds the file, in bytes: closing checkpoints of terabytes.
	MaxCheckpoints  = 64 << 20
	thinAt          = 1 << 20 // from this size on it is thinned out
	keptCheckpoints = 100     // of the current segment, when it is
)

// readCheckpoints is empty where there is no file.
func readCheckpoints(dir string) ([]byte, error) {
	data, err := readBeside(dir, checkpointsName, MaxCheckpoints)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// readBeside reads a private file that lies beside the segments.
func readBeside(dir, name string, most int64) ([]byte, error) {
	f, err := openSegment(dir, name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > most {
		return nil, &ChainError{File: name, Why: "it is larger than it can be"}
	}
	return readNotes(f, 0, info.Size())
}

func readNotes(f *os.File, from, size int64) ([]byte, error) {
	data := make([]byte, size-from)
	n, err := f.ReadAt(data, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("audit: read checkpoints: %w", err)
	}
	return data[:n], nil
}

// newest finds the last note that v signed for which fit, if there is one,
// holds, looking from the end; nil when there is none. end is where the next
// note belongs: after the last whole one. v may be nil: any signature will do.
func newest(data []byte, v note.Verifier, fit func(signedNote) bool) (found *signedNote, end int) {
	end = len(data)
	for last := true; len(data) > 0 && found == nil; last = false {
		start := bytes.LastIndex(data, []byte("\n\n"+originPrefix)) + len("\n\n")
		if start < len("\n\n") {
			start = 0
		}
		n, rest, ok := cutNote(data[start:])
		if last && ok && len(rest) > 0 && unfinished(rest) {
			end -= len(rest)
		} else if last && !ok && unfinished(data[start:]) {
			end = start
		}
		if ok && (fit == nil || fit(n)) && (v == nil || n.signedBy(v)) {
			found = &n
		}
		data = data[:start]
	}
	return found, end
}

// checkpointFile is the file of the checkpoints as who holds the log's lock
// appends to it.
type checkpointFile struct {
	path string
	f    *os.File // nil: there is none yet
	end  int64    // after the last whole note
	last *signedNote
}

// openCheckpoints finds the newest checkpoint that v signed, and the file's
// end. The caller closes it.
func openCheckpoints(dir string, v note.Verifier) (*checkpointFile, error) {
	c := &checkpointFile{path: filepath.Join(dir, checkpointsName)}
	f, err := openSegment(dir, checkpointsName, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	c.f = f
	info, err := f.Stat()
	if err == nil && info.Size() > MaxCheckpoints {
		err = &ChainError{File: checkpointsName, Why: "it is larger than it can be"}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	// The last note is nearly always the one. Else all are looked through.
	for from := max(0, info.Size()-2*maxNote); ; from = 0 {
		data, err := readNotes(f, from, info.Size())
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		cut := 0 // in the middle of a note
		if from > 0 {
			if cut = bytes.Index(data, []byte("\n\n"+originPrefix)) + len("\n\n"); cut < len("\n\n") {
				continue
			}
		}
		last, end := newest(data[cut:], v, nil)
		if last == nil && from > 0 {
			continue
		}
		c.last, c.end = last, from+int64(cut+end)
		return c, nil
	}
}

func (c *checkpointFile) close() error {
	if c.f == nil {
		return nil
	}
	return c.f.Close()
}

// append puts notes on disk behind the last one, or leaves the file as it was.
func (c *checkpointFile) append(notes []byte, sync func(*os.File) error) error {
	if c.f == nil {
		return durable.CreateFile(c.path, notes)
	}
	err := c.f.Truncate(c.end) // of what a power cut left
	if err == nil {
		_, err = c.f.WriteAt(notes, c.end)
	}
	if err == nil {
		err = sync(c.f)
	}
	if err != nil {
		return fmt.Errorf("audit: write checkpoint: %w", errors.Join(err, c.f.Truncate(c.end)))
	}
	c.end += int64(len(notes))
	return nil
}

// thin rewrites the file with the closing checkpoint of each segment and the
// last ones of the current, and returns its new size.
func (c *checkpointFile) thin() (int64, error) {
	data, err := readNotes(c.f, 0, c.end)
	if err != nil {
		return c.end, err
	}
	kept := thinned(data)
	if len(kept) == len(data) {
		return c.end, nil
	}
	if err := errors.Join(durable.RemoveTemp(c.path), durable.WriteFile(c.path, kept)); err != nil {
		return c.end, err
	}
	return int64(len(kept)), nil
}

// thinned leaves out the checkpoints that say no more than a later one of the
// same segment. What is no note of ours stays: it is evidence.
func thinned(data []byte) []byte {
	var all []signedNote
	rest, _ := eachNote(data, func(n signedNote, _ int) bool {
		all = append(all, n)
		return true
	})
	if len(rest) > 0 {
		return data
	}
	kept := make([]byte, 0, len(data))
	for i, n := range all {
		if i >= len(all)-keptCheckpoints || all[i+1].Head.File != n.Head.File {
			kept = append(kept, n.encode()...)
		}
	}
	return kept
}

package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"moldable.sh/aivault/internal/durable"
)

const (
	segmentSuffix = ".jsonl"
	lockName      = "lock"
)

func segmentName(n int) string { return fmt.Sprintf("%08d%s", n, segmentSuffix) }

// segmentNumber is 0 for a name that is no segment's.
func segmentNumber(name string) int {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	n, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil || segmentName(int(n)) != name {
		return 0
	}
	return int(n)
}

// segments lists the log's segments in order. None is os.ErrNotExist; one
// that is missing in between, or at the start, is a *ChainError.
func segments(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if segmentNumber(e.Name()) > 0 {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(dir, segmentName(1)), Err: fs.ErrNotExist}
	}
	slices.Sort(names)
	for i, name := range names {
		if name != segmentName(i+1) {
			return nil, &ChainError{File: segmentName(i + 1), Why: "this part of the log is missing"}
		}
	}
	return names, nil
}

// openSegment opens a segment that is private and no symbolic link.
func openSegment(dir, name string, flags int) (*os.File, error) {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, flags|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		if perm := durable.CheckPrivate(path); perm != nil {
			return nil, perm // names the link and its remedy
		}
	}
	if err != nil {
		return nil, err
	}
	if err := durable.CheckPrivateFile(f, path); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// openToRead also tells the size at that moment: what is appended meanwhile is
// of no concern to a reader.
func openToRead(dir, name string) (*os.File, int64, error) {
	f, err := openSegment(dir, name, os.O_RDONLY)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

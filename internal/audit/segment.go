package audit

import (
	"errors"
	"fmt"
	"io"
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
	packedSuffix  = ".gz" // follows segmentSuffix
	lockName      = "lock"
)

// busyTries is how often a look is repeated that found the directory while a
// segment was closed, compressed or removed.
const busyTries = 5

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

func missing(name string) error {
	return &ChainError{File: name, Why: "this part of the log is missing"}
}

// segments lists the log's segments in order, compressed ones by their plain
// name. The first that is kept need not be the first that was. None is
// os.ErrNotExist; one that is missing in between is a *ChainError.
func segments(dir string) (names []string, err error) {
	for range busyTries {
		if names, err = list(dir); err != nil {
			return nil, err
		}
		lacks := gap(names)
		// What was compressed while the directory was read may have been seen
		// under neither name, also the first of all.
		if before := segmentName(segmentNumber(names[0]) - 1); lacks == "" && exists(dir, before) {
			lacks = before
		}
		if lacks == "" {
			return names, nil
		}
		err = missing(lacks)
	}
	return nil, err
}

// gap is the first segment that is missing between others, "" for none.
func gap(names []string) string {
	first := segmentNumber(names[0])
	for i, name := range names {
		if want := segmentName(first + i); name != want {
			return want
		}
	}
	return ""
}

func list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if name := strings.TrimSuffix(e.Name(), packedSuffix); segmentNumber(name) > 0 {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(dir, segmentName(1)), Err: fs.ErrNotExist}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// exists says whether a segment is there, compressed or not.
func exists(dir, name string) bool {
	path := filepath.Join(dir, name)
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		_, err = os.Lstat(path + packedSuffix)
	}
	return err == nil
}

// openSegment opens a segment that is private and no symbolic link.
func openSegment(dir, name string, flags int) (*os.File, error) {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, flags|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, durable.CheckOpened(path, err)
	}
	if err := durable.CheckPrivateFile(f, path); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// openCurrent opens the segment that grows.
func openCurrent(dir string) (f *os.File, name string, err error) {
	for range busyTries {
		names, err := segments(dir)
		if err != nil {
			return nil, "", err
		}
		name = names[len(names)-1]
		f, err := openSegment(dir, name, os.O_RDWR)
		if errors.Is(err, fs.ErrNotExist) {
			continue // others have closed it since, and the one after it
		}
		if err != nil {
			return nil, "", err
		}
		if len(names) == 1 {
			return f, name, nil
		}
		before := names[len(names)-2]
		begun, err := isBegun(f, dir, before)
		if begun {
			return f, name, nil
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, "", err
		}
		// Whoever made the new segment was killed before it closed the old one.
		if f, err = openSegment(dir, before, os.O_RDWR); err == nil {
			return f, before, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, "", err
		}
	}
	return nil, "", missing(name)
}

// isBegun says whether f, the newest segment, is in use: it holds something,
// or the segment before it is closed.
func isBegun(f *os.File, dir, before string) (bool, error) {
	info, err := f.Stat()
	if err != nil || info.Size() > 0 {
		return err == nil, err
	}
	end, _, err := lastIn(dir, before)
	return end.closed, err
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

// part is an open segment as plain text, whether or not it is compressed.
type part struct {
	io.ReaderAt
	file *os.File
}

// Close closes the file.
func (p *part) Close() error { return p.file.Close() }

// openText is openToRead for a segment that may be compressed: it is then
// decompressed as it is read, which is meant for who reads forward.
func openText(dir, name string) (*part, int64, error) {
	f, size, err := openToRead(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return openPacked(dir, name)
	}
	if err != nil {
		return nil, 0, err
	}
	return &part{f, f}, size, nil
}

// openFromEnd is openText for who reads from the end: what is compressed is
// held in memory.
func openFromEnd(dir, name string) (*part, int64, error) {
	p, size, err := openText(dir, name)
	if err != nil {
		return nil, 0, err
	}
	if z, ok := p.ReaderAt.(*unzipper); ok {
		if p.ReaderAt, err = z.load(); err != nil {
			return nil, 0, errors.Join(err, p.Close())
		}
	}
	return p, size, nil
}

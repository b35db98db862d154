package cli

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"moldable.sh/aivault/internal/api"
)

// writeOutput writes r to path by way of a temporary file beside it, which
// takes its place when all has arrived. What is there and is no regular file
// (a pipe, /dev/null) is written to directly.
func writeOutput(path string, r io.Reader) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return outputError(path, errors.New("it is a directory"))
	case err == nil && !info.Mode().IsRegular():
		return writeDirectly(path, r)
	case err == nil:
		// Through a symbolic link, its target is replaced, not the link.
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return outputError(path, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return outputError(path, err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".part-*")
	if err != nil {
		return outputError(path, err)
	}
	// After the rename there is nothing left to remove.
	defer os.Remove(tmp.Name())
	if err := copyFlushed(tmp, r); err != nil {
		return errors.Join(outputOrUpstream(path, err), tmp.Close())
	}
	if err := tmp.Close(); err != nil {
		return outputError(path, err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return outputError(path, err)
	}
	return nil
}

func writeDirectly(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return outputError(path, err)
	}
	if err := copyFlushed(f, r); err != nil {
		return errors.Join(outputOrUpstream(path, err), f.Close())
	}
	if err := f.Close(); err != nil {
		return outputError(path, err)
	}
	return nil
}

// outputOrUpstream keeps what broke the answer off apart from what broke the
// file.
func outputOrUpstream(path string, err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return outputError(path, err)
	}
	return err
}

func outputError(path string, err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return api.Errorf(api.Internal, "--output: write %q: %w", path, err)
}

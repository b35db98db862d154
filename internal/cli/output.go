package cli

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"moldable.sh/aivault/internal/api"
)

// checkOutput says before a call goes out whether its answer could be written
// to path: an answer that has nowhere to go is lost, and may have cost money.
func checkOutput(path string) error {
	err := tryOutput(path)
	if e := api.AsError(err); e != nil {
		return api.Errorf(api.InvalidRequest, "%s", e.Message)
	}
	return nil
}

func tryOutput(path string) error {
	path, direct, err := outputFile(path)
	if err != nil || direct {
		return err
	}
	tmp, err := createPart(path)
	if err != nil {
		return err
	}
	return errors.Join(tmp.Close(), os.Remove(tmp.Name()))
}

// outputFile is the file that path leads to. direct says that it is there and
// no regular file, so that nothing can take its place.
func outputFile(path string) (file string, direct bool, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return path, false, nil
	case err != nil:
		return "", false, outputError(path, err)
	case info.IsDir():
		return "", false, outputError(path, errors.New("it is a directory"))
	case !info.Mode().IsRegular():
		return path, true, nil
	}
	// Through a symbolic link, its target is replaced, not the link.
	file, err = filepath.EvalSymlinks(path)
	if err != nil {
		return "", false, outputError(path, err)
	}
	return file, false, nil
}

func createPart(path string) (*os.File, error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".part-*")
	if err != nil {
		return nil, outputError(path, err)
	}
	return tmp, nil
}

// writeOutput writes r to path by way of a temporary file beside it, which
// takes its place when all has arrived. What is there and is no regular file
// (a pipe, /dev/null) is written to directly.
func writeOutput(path string, r io.Reader) error {
	path, direct, err := outputFile(path)
	if err != nil {
		return err
	}
	if direct {
		return writeDirectly(path, r)
	}
	tmp, err := createPart(path)
	if err != nil {
		return err
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

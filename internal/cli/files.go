package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"moldable.sh/aivault/internal/api"
)

// source is something to read that a flag named: a file, a pipe, or standard
// input. It is opened here, by the caller's own process and with the caller's
// own rights; the daemon never sees the path.
type source struct {
	io.Reader
	size  int64    // -1: unknown
	name  string   // the base name of a file, "" for standard input
	file  *os.File // nil for standard input
	close func() error
}

// Close implements io.Closer.
func (s *source) Close() error {
	if s.close == nil {
		return nil
	}
	return s.close()
}

// takeStdin gives standard input to a flag; only one may have it.
func (o *Options) takeStdin(flag string) (io.Reader, error) {
	if o.stdinFor != "" {
		return nil, api.Errorf(api.InvalidRequest, "--%s and --%s cannot both read standard input", o.stdinFor, flag)
	}
	o.stdinFor = flag
	return o.Stdin, nil
}

// open opens what a flag named; "-" is standard input. Waiting for a pipe's
// other end stops when ctx does.
func (o *Options) open(ctx context.Context, flag, path string) (*source, error) {
	if path == "-" {
		in, err := o.takeStdin(flag)
		if err != nil {
			return nil, err
		}
		return &source{Reader: ctxReader{ctx, in}, size: -1}, nil
	}
	f, err := await(ctx, func() (*os.File, error) { return os.Open(path) })
	if err != nil {
		return nil, fileError(flag, path, err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = errors.New("it is a directory")
	}
	if err != nil {
		return nil, errors.Join(fileError(flag, path, err), f.Close())
	}
	s := &source{Reader: f, size: -1, name: info.Name(), file: f, close: f.Close}
	if info.Mode().IsRegular() {
		s.size = info.Size()
	} else {
		s.Reader = ctxReader{ctx, f}
	}
	return s, nil
}

func fileError(flag, path string, err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	if flag == "" {
		return api.Errorf(api.InvalidRequest, "read %q: %w", path, err)
	}
	return api.Errorf(api.InvalidRequest, "--%s: read %q: %w", flag, path, err)
}

// readAll reads a flag's file whole, up to limit bytes.
func (o *Options) readAll(ctx context.Context, flag, path string, limit int64) ([]byte, error) {
	s, err := o.open(ctx, flag, path)
	if err != nil {
		return nil, err
	}
	data, err := readLimited(s, limit)
	err = errors.Join(err, s.Close())
	switch {
	case errors.Is(err, errTooLong):
		if flag == "" {
			return nil, api.Errorf(api.InvalidRequest, "%q is longer than %d bytes", path, limit)
		}
		return nil, api.Errorf(api.InvalidRequest, "--%s: %q is longer than %d bytes", flag, path, limit)
	case err != nil:
		return nil, fileError(flag, path, err)
	}
	return data, nil
}

var errTooLong = errors.New("too long")

// readLimited reads r to its end in one buffer that is wiped when it must be
// given up, for it may hold a secret.
func readLimited(r io.Reader, limit int64) ([]byte, error) {
	buf := make([]byte, 0, 512)
	for {
		if len(buf) == cap(buf) {
			bigger := make([]byte, len(buf), 2*cap(buf))
			copy(bigger, buf)
			clear(buf)
			buf = bigger
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > limit:
			clear(buf)
			return nil, errTooLong
		case errors.Is(err, io.EOF):
			return buf, nil
		case err != nil:
			clear(buf)
			return nil, err
		}
	}
}

// trimNewline drops the one newline that editors and echo put at the end.
func trimNewline(b []byte) []byte {
	b, had := bytes.CutSuffix(b, []byte("\n"))
	if had {
		b = bytes.TrimSuffix(b, []byte("\r"))
	}
	return b
}

// ctxReader stops waiting for a pipe or a terminal when ctx ends. The read
// itself ends with the process.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	// The buffer is the reader's own: after ctx ends nobody may look at p.
	own := make([]byte, len(p))
	n, err := await(c.ctx, func() (int, error) { return c.r.Read(own) })
	return copy(p, own[:n]), err
}

// await runs what may block for ever, until ctx ends.
func await[T any](ctx context.Context, do func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := do()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}

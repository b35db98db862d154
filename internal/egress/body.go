package egress

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"moldable.sh/aivault/internal/api"
)

// sentBody is a request's body on its way. It keeps to the declared length to
// the byte: the last byte is held back until the reader has shown its end, so
// that a body of another length never reaches the upstream as a whole one.
type sentBody struct {
	call   *call
	reader io.Reader
	length int64 // -1 unknown
	left   int64
	sent   atomic.Int64
	closed atomic.Bool
}

// writeBuffer is how much of a request the transport gathers into one write.
const writeBuffer = 8 << 10

// inOneWrite returns a body that net/http sends in one write with the header,
// or nil. Of a reader whose type it does not know it fears that it may block,
// and sends the header ahead, in a packet of its own: twice the system calls,
// here and at the upstream. The caller's reader is left alone, since the
// transport may still read when the call is over.
func (b *Body) inOneWrite() io.ReadCloser {
	text, ok := b.Reader.(*strings.Reader)
	if !ok || b.Length <= 0 || b.Length > writeBuffer || int64(text.Len()) != b.Length {
		return nil
	}
	own := *text
	return io.NopCloser(&own)
}

// newSentBody returns nil when there is nothing to send.
func (c *call) newSentBody(body Body) (*sentBody, error) {
	if body.Reader == nil {
		if body.Length > 0 {
			return nil, api.Errorf(api.InvalidRequest, "the request's body of %d bytes is missing", body.Length)
		}
		return nil, nil
	}
	b := &sentBody{call: c, reader: body.Reader, length: max(body.Length, -1), left: body.Length}
	if b.length == 0 {
		if err := b.atEnd(); err != nil {
			return nil, b.fail(err)
		}
		return nil, nil
	}
	return b, nil
}

// count is how much was sent; a nil body has sent nothing.
func (b *sentBody) count() int64 {
	if b == nil {
		return 0
	}
	return b.sent.Load()
}

var errTooLong = errors.New("longer than declared")

func (b *sentBody) Read(p []byte) (int, error) {
	if b.closed.Load() || b.call.ctx.Err() != nil {
		return 0, errClosed
	}
	if b.length < 0 {
		n, err := b.reader.Read(p)
		if err != nil && err != io.EOF {
			return 0, b.fail(err)
		}
		b.moved(n)
		return n, err
	}
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.reader.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	switch {
	case err != nil && err != io.EOF:
		return 0, b.fail(err)
	case b.left > 0 && err == io.EOF:
		return 0, b.fail(io.ErrUnexpectedEOF)
	case b.left == 0 && err == nil:
		if err = b.atEnd(); err != nil {
			return 0, b.fail(err)
		}
		err = io.EOF
	}
	b.moved(n)
	return n, err
}

func (b *sentBody) moved(n int) {
	if n > 0 {
		b.sent.Add(int64(n))
		b.call.touch()
	}
}

// atEnd is nil when the reader has nothing more.
func (b *sentBody) atEnd() error {
	var probe [1]byte
	for range 100 {
		n, err := b.reader.Read(probe[:])
		switch {
		case n > 0:
			return errTooLong
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

// fail ends the call: the request is neither complete nor to be answered.
func (b *sentBody) fail(err error) error {
	failed := b.describe(err)
	b.call.cancel(failed)
	return failed
}

func (b *sentBody) describe(err error) error {
	var known *api.Error
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &large):
		return api.Errorf(api.RequestTooLarge, "the request's body is larger than %d bytes", large.Limit)
	case errors.Is(err, errTooLong):
		return api.Errorf(api.InvalidRequest, "the request's body is longer than the %d bytes declared", b.length)
	case errors.Is(err, io.ErrUnexpectedEOF) && b.length >= 0:
		return api.Errorf(api.InvalidRequest, "the request's body ended %d bytes short of the %d declared", b.left, b.length)
	}
	return api.Errorf(api.InvalidRequest, "the request's body broke off")
}

// Close is the transport's word that it reads no more. The caller's reader is
// the caller's to close.
func (b *sentBody) Close() error {
	b.closed.Store(true)
	return nil
}

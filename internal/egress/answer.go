package egress

import (
	"io"

	"moldable.sh/aivault/internal/api"
)

// answerBody is an answer's body on its way back: as the upstream means it,
// its compression undone, its errors in our words.
type answerBody struct {
	call    *call
	wire    io.ReadCloser
	decoder io.Reader // nil: the body is not compressed
	packed  int64     // bytes read from the wire
	length  int64     // -1 unknown
	err     error     // what the body ended with
}

func (b *answerBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	var n int
	if b.decoder == nil {
		n, b.err = b.readWire(p)
	} else {
		n, b.err = b.decoder.Read(p)
	}
	if b.err != nil {
		b.call.end()
	}
	return n, b.err
}

// readWire reads what the upstream sends; its errors are final.
func (b *answerBody) readWire(p []byte) (int, error) {
	n, err := b.wire.Read(p)
	if n > 0 {
		b.packed += int64(n)
		b.call.touch()
	}
	// An upstream may end its answer in good order because it saw us leave:
	// that answer is not whole.
	if err != nil && (err != io.EOF || b.call.ctx.Err() != nil) {
		err = b.call.fault(err)
	}
	return n, err
}

// Close breaks the call off if its answer was not read to the end. It may be
// called while a Read is under way, which then fails.
func (b *answerBody) Close() error {
	b.call.close()
	_ = b.wire.Close() // nothing to do about a connection that ends badly
	return nil
}

// failed is what is wrong with the answer itself.
func (b *answerBody) failed(format string, args ...any) error {
	return api.Errorf(api.UpstreamUnreachable, "%s: "+format, append([]any{b.call.pool.name}, args...)...)
}

package egress

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/redact"
)

// decode sets up the undoing of the answer's compression. An encoding that
// cannot be undone is refused, because what is in it could not be scrubbed.
func (b *answerBody) decode(method string, resp *http.Response) error {
	if method == http.MethodHead || resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified {
		return nil
	}
	encoding := ""
	for _, line := range resp.Header["Content-Encoding"] {
		for name := range strings.SplitSeq(line, ",") {
			switch name = strings.ToLower(strings.Trim(name, " \t")); {
			case name == "" || name == "identity":
			case encoding != "":
				return b.failed("its answer is compressed twice, and cannot be checked")
			default:
				encoding = name
			}
		}
	}
	if encoding == "" {
		return nil
	}
	switch encoding {
	case "gzip", "x-gzip", "deflate":
		b.decoder = &unpacker{body: b, encoding: encoding}
	case "br", "zstd", "compress", "x-compress", "dcb", "dcz":
		return b.failed("its answer is compressed with %s, and cannot be checked", encoding)
	default: // not named: it is the upstream's text
		return b.failed("its answer has an encoding that is not known, and cannot be checked")
	}
	resp.Header.Del("Content-Encoding")
	resp.Header.Del("Content-Length")
	b.length = -1
	return nil
}

// unpacker decompresses a body. It looks at the first bytes when it is first
// read, not before: the header of a stream is there long before its body.
type unpacker struct {
	body     *answerBody
	encoding string
	source   *bufio.Reader
	inner    io.Reader // nil until the first Read
	size     int64
}

func (u *unpacker) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if u.inner == nil {
		if err := u.open(); err != nil {
			return 0, u.fault(err)
		}
	}
	n, err := u.inner.Read(p)
	u.size += int64(n)
	if redact.Bomb(u.size, u.body.packed) {
		return 0, api.Errorf(api.ResponseTooLarge, "%s: its answer expands to more than %d times its size", u.body.call.pool.name, redact.MaxRatio)
	}
	if err == io.EOF {
		// The trailer comes after the end of the wire, and bytes that no
		// decoder has seen must not stay unmentioned.
		if _, rest := u.source.ReadByte(); rest != io.EOF {
			if rest == nil {
				rest = gzip.ErrHeader
			}
			return 0, u.fault(rest)
		}
		return n, io.EOF
	}
	if err != nil {
		return 0, u.fault(err)
	}
	return n, nil
}

// wire makes the body's wire a reader of its own.
type wire struct{ *answerBody }

func (w wire) Read(p []byte) (int, error) { return w.readWire(p) }

func (u *unpacker) open() error {
	u.source = bufio.NewReaderSize(wire{u.body}, 4<<10)
	if _, err := u.source.Peek(1); err != nil {
		return err // io.EOF: an empty body is a whole one
	}
	var err error
	switch {
	case u.encoding != "deflate":
		u.inner, err = gzip.NewReader(u.source)
	case zlibHeader(u.source):
		u.inner, err = zlib.NewReader(u.source)
	default:
		// What some servers send, having read the name as it sounds.
		u.inner = flate.NewReader(u.source)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // not an empty body but half a header
	}
	return err
}

// zlibHeader says whether a stream begins as RFC 1950 has it.
func zlibHeader(r *bufio.Reader) bool {
	head, err := r.Peek(2)
	return err == nil && head[0]&0x0f == 8 && (uint(head[0])<<8|uint(head[1]))%31 == 0
}

func (u *unpacker) fault(err error) error {
	var known *api.Error
	switch {
	case err == io.EOF:
		return io.EOF
	case errors.As(err, &known):
		return known
	}
	return u.body.failed("its answer is not what its Content-Encoding says")
}

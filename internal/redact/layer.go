package redact

import (
	"compress/flate"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

// packing is a format that a body may begin with.
type packing int

const (
	asGzip packing = iota + 1
	asZlib
	asZstd
)

// beginsLike tells what b begins with, 0 for none of them. more says that it
// could be told from a longer b only.
func beginsLike(b []byte) (kind packing, more bool) {
	if len(b) == 0 {
		return 0, true
	}
	first := b[0]
	switch {
	case first == 0x1f: // RFC 1952, of which deflate is the only method
		return begin(b, asGzip, 0x8b, 8)
	case first == 0x28:
		if kind, more := begin(b, asZstd, 0xb5, 0x2f, 0xfd); kind != 0 || more && len(b) > 1 {
			return kind, more
		}
	case first>>4 == 5: // a frame to be skipped: RFC 8878, 3.1.2
		if kind, more := begin(b, asZstd, 0x2a, 0x4d, 0x18); kind != 0 || more && len(b) > 1 {
			return kind, more
		}
	}
	// RFC 1950, without a dictionary that would have to be known.
	switch {
	case first&0x0f != 8 || first>>4 > 7:
		return 0, len(b) == 1 && first>>4 == 5
	case len(b) == 1:
		return 0, true
	case (uint(first)<<8|uint(b[1]))%31 == 0 && b[1]&0x20 == 0:
		return asZlib, false
	}
	return 0, false
}

// begin compares b, from its second byte on, with what has to stand there.
func begin(b []byte, kind packing, want ...byte) (packing, bool) {
	for i, c := range want {
		switch {
		case len(b) == i+1:
			return 0, true
		case b[i+1] != c:
			return 0, false
		}
	}
	return kind, false
}

// A layer is the text of one packed part of a body, unpacked as leniently as
// the most careless reader would do it: no checksum is compared. It ends with
// io.EOF where the part does or where nobody could unpack more of it, and
// with another error where the body breaks off or may not be passed on.
type layer struct {
	tap    *tap
	kind   packing
	start  int64 // of the part in the body
	text   io.Reader
	broken bool // it could not be unpacked to its end
	done   bool

	size int64 // of the text
}

func newLayer(t *tap, kind packing) *layer {
	return &layer{tap: t, kind: kind, start: t.offset()}
}

// Read implements io.Reader.
func (l *layer) Read(b []byte) (int, error) {
	if l.done {
		return 0, io.EOF
	}
	n, err := l.read(b)
	l.size += int64(n)
	if Bomb(l.size, l.tap.offset()-l.start) {
		return 0, ErrBomb
	}
	switch {
	case err == nil:
		return n, nil
	case l.tap.err != nil && l.tap.err != io.EOF:
		return n, l.tap.err
	case err == ErrUnchecked:
		return n, err
	case err != io.EOF:
		l.broken = true
	default:
		l.skipSum()
	}
	l.done = true
	return n, io.EOF
}

// read unpacks. An error says why there is no more; io.EOF is the part's
// regular end.
func (l *layer) read(b []byte) (int, error) {
	if l.text == nil {
		if err := l.open(); err != nil {
			return 0, errBroken
		}
	}
	n, err := l.text.Read(b)
	for _, e := range []error{zstd.ErrWindowSizeExceeded, zstd.ErrUnknownDictionary, zstd.ErrDecoderSizeExceeded, zstd.ErrFrameSizeExceeded} {
		if errors.Is(err, e) {
			err = ErrUnchecked
		}
	}
	return n, err
}

var errBroken = errors.New("redact: not what it looks like")

func (l *layer) open() error {
	switch l.kind {
	case asGzip:
		if err := l.skipGzipHeader(); err != nil {
			return err
		}
	case asZlib:
		if err := l.skipBytes(2); err != nil {
			return err
		}
	case asZstd:
		d, err := zstd.NewReader(onlyReader{l.tap}, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.IgnoreChecksum(true))
		if err != nil {
			return err
		}
		l.text = d
		return nil
	}
	l.text = flate.NewReader(l.tap) // an io.ByteReader: it takes no byte too many
	return nil
}

// maxWindow is what a decoder of zstd has to support at least (RFC 8878,
// 3.1.1.1.2), and the most that it may hold of memory here.
const maxWindow = 8 << 20

type onlyReader struct{ io.Reader }

// Flags of a gzip header.
const (
	gzipHeaderSum = 1 << 1
	gzipExtra     = 1 << 2
	gzipName      = 1 << 3
	gzipComment   = 1 << 4
)

func (l *layer) skipGzipHeader() error {
	if err := l.skipBytes(3); err != nil {
		return err
	}
	flags, err := l.tap.ReadByte()
	if err == nil {
		err = l.skipBytes(6)
	}
	if err == nil && flags&gzipExtra != 0 {
		var low, high byte
		low, err = l.tap.ReadByte()
		if err == nil {
			high, err = l.tap.ReadByte()
		}
		if err == nil {
			err = l.skipBytes(int(high)<<8 | int(low))
		}
	}
	for _, f := range [...]byte{gzipName, gzipComment} {
		for err == nil && flags&f != 0 {
			var c byte
			if c, err = l.tap.ReadByte(); c == 0 {
				break
			}
		}
	}
	if err == nil && flags&gzipHeaderSum != 0 {
		err = l.skipBytes(2)
	}
	return err
}

func (l *layer) skipBytes(n int) error {
	for range n {
		if _, err := l.tap.ReadByte(); err != nil {
			return err
		}
	}
	return nil
}

// skipSum passes over the checksum behind a part; one that is missing is
// nobody's loss.
func (l *layer) skipSum() {
	n := map[packing]int{asGzip: 8, asZlib: 4}[l.kind]
	_ = l.skipBytes(n)
}

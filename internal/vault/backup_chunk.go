package vault

import (
	"bufio"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"io"

	"golang.org/x/crypto/chacha20poly1305"

	"moldable.sh/aivault/internal/secret"
)

// The copy of the log in a backup is sealed in chunks, so that it can be
// written and read as it comes: each has its number in its nonce, and the last
// says that it is the last. Chunks that are changed, dropped, repeated, put in
// another order or cut off do not open.
const chunkSize = 64 << 10

// errSealedLog says that a chunk does not open, or that the last is missing.
var errSealedLog = errors.New("is damaged, cut off, or put together from several")

// chunks seals or opens one chunk after another under a key that is used for
// nothing else.
type chunks struct {
	aead cipher.AEAD
	aad  []byte
	n    uint64
}

// newChunks binds every chunk to the backup's first line.
func newChunks(key secret.Value, line []byte) (chunks, error) {
	aead, err := chacha20poly1305.NewX(key.Expose())
	return chunks{aead: aead, aad: aad([]byte(forBackupLog), line)}, err
}

// nonce is 15 zero bytes, the chunk's number and whether it is the last.
func (c *chunks) nonce(last bool) []byte {
	b := make([]byte, nonceSize)
	binary.BigEndian.PutUint64(b[nonceSize-9:], c.n)
	if last {
		b[nonceSize-1] = 1
	}
	c.n++
	return b
}

// chunkWriter seals what is written to it. Close writes the last chunk.
type chunkWriter struct {
	chunks
	w      io.Writer
	plain  []byte
	sealed []byte
}

func newChunkWriter(w io.Writer, key secret.Value, line []byte) (*chunkWriter, error) {
	c, err := newChunks(key, line)
	return &chunkWriter{chunks: c, w: w, plain: make([]byte, 0, chunkSize), sealed: make([]byte, 0, chunkSize+tagSize)}, err
}

func (c *chunkWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		// A full chunk is kept until it is known not to be the last.
		if len(c.plain) == chunkSize {
			if err := c.flush(false); err != nil {
				return n, err
			}
		}
		m := copy(c.plain[len(c.plain):chunkSize], p)
		c.plain = c.plain[:len(c.plain)+m]
		p = p[m:]
		n += m
	}
	return n, nil
}

func (c *chunkWriter) flush(last bool) error {
	c.sealed = c.aead.Seal(c.sealed[:0], c.nonce(last), c.plain, c.aad)
	c.plain = c.plain[:0]
	_, err := c.w.Write(c.sealed)
	return err
}

// Close writes what is left, and that it is the end.
func (c *chunkWriter) Close() error { return c.flush(true) }

// chunkReader opens what chunkWriter sealed. A Read returns nothing that is
// not proven, and io.EOF only behind the last chunk of all.
type chunkReader struct {
	chunks
	r     *bufio.Reader
	buf   []byte
	plain []byte // opened and not yet read
	err   error
}

func newChunkReader(r io.Reader, key secret.Value, line []byte) (*chunkReader, error) {
	c, err := newChunks(key, line)
	return &chunkReader{chunks: c, r: bufio.NewReaderSize(r, chunkSize), buf: make([]byte, chunkSize+tagSize)}, err
}

func (c *chunkReader) Read(p []byte) (int, error) {
	for len(c.plain) == 0 {
		if c.err != nil {
			return 0, c.err
		}
		c.next()
	}
	n := copy(p, c.plain)
	c.plain = c.plain[n:]
	return n, nil
}

func (c *chunkReader) next() {
	n, err := io.ReadFull(c.r, c.buf)
	if err == nil {
		_, err = c.r.Peek(1)
	}
	last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	if err != nil && !last {
		c.err = err // of who sends it
		return
	}
	plain, err := c.aead.Open(c.buf[:0], c.nonce(last), c.buf[:n], c.aad)
	if err != nil {
		c.err = errSealedLog
		return
	}
	c.plain = plain
	if last {
		c.err = io.EOF
	}
}

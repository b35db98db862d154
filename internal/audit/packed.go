package audit

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxPacked bounds the plain text of a compressed segment: a larger one is not
// compressed, and what claims to be larger is not read.
const maxPacked = 64 << 20

// packedHead is how a compressed segment begins: gzip, without a name, a time
// or anything else that is optional.
const packedHead = "\x1f\x8b\x08\x00\x00\x00\x00\x00"

const minPacked = 10 + 8 // header and trailer

// openPacked opens a compressed segment by its plain name.
func openPacked(dir, name string) (*part, int64, error) {
	name += packedSuffix
	f, err := openSegment(dir, name, os.O_RDONLY)
	if err != nil {
		return nil, 0, err
	}
	z := &unzipper{file: f, name: name}
	if err := z.measure(); err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return &part{z, f}, z.size, nil
}

// unzipper reads a compressed segment as it stands in the file: cheaply where
// each read follows on the one before, from the start again where it does not.
type unzipper struct {
	file *os.File
	name string
	size int64 // of the plain text, as the trailer says; checked at the end

	in  *bufio.Reader
	out *gzip.Reader // nil before the first read
	pos int64        // of out
}

func (z *unzipper) broken(why string) error { return &ChainError{File: z.name, Why: why} }

// measure reads header and trailer.
func (z *unzipper) measure() error {
	info, err := z.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < minPacked {
		return z.broken("it is too short to be a compressed part of the log")
	}
	var head [len(packedHead)]byte
	var trailer [4]byte
	if _, err := z.file.ReadAt(head[:], 0); err != nil {
		return fmt.Errorf("audit: read log: %w", err)
	}
	if _, err := z.file.ReadAt(trailer[:], info.Size()-int64(len(trailer))); err != nil {
		return fmt.Errorf("audit: read log: %w", err)
	}
	if string(head[:]) != packedHead {
		return z.broken("it does not begin as a compressed part of the log does")
	}
	z.size = int64(binary.LittleEndian.Uint32(trailer[:]))
	if z.size == 0 || z.size > maxPacked {
		return z.broken(fmt.Sprintf("it claims to hold %d bytes, and a compressed part of the log holds 1 to %d", z.size, int64(maxPacked)))
	}
	return nil
}

// ReadAt decompresses up to what is asked for.
func (z *unzipper) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, os.ErrInvalid
	}
	if off >= z.size {
		return 0, io.EOF
	}
	if z.out == nil || off < z.pos {
		if err := z.restart(); err != nil {
			return 0, err
		}
	}
	skipped, err := io.CopyN(io.Discard, z.out, off-z.pos)
	z.pos += skipped
	if err != nil {
		return 0, z.failed(err)
	}
	want := min(int64(len(b)), z.size-off)
	n, err := io.ReadFull(z.out, b[:want])
	z.pos += int64(n)
	if err != nil {
		return n, z.failed(err)
	}
	if z.pos == z.size {
		if err := z.checkEnd(); err != nil {
			return 0, err
		}
	}
	if want < int64(len(b)) {
		return n, io.EOF
	}
	return n, nil
}

func (z *unzipper) restart() error {
	z.in = bufio.NewReaderSize(io.NewSectionReader(z.file, 0, 1<<62), 32<<10)
	out, err := gzip.NewReader(z.in)
	if err != nil {
		return z.failed(err)
	}
	out.Multistream(false)
	z.out, z.pos = out, 0
	return nil
}

// checkEnd makes sure that nothing follows: no more text, whose checksum
// gzip compares here, no second member, no other bytes.
func (z *unzipper) checkEnd() error {
	var more [1]byte
	n, err := io.ReadFull(z.out, more[:])
	if n > 0 {
		return z.broken("it holds more than it claims")
	}
	if !errors.Is(err, io.EOF) {
		return z.failed(err)
	}
	if _, err := z.in.ReadByte(); err == nil {
		return z.broken("something follows the compressed text")
	} else if !errors.Is(err, io.EOF) {
		return z.failed(err)
	}
	z.out = nil // spent
	return nil
}

// failed tells a file that is broken from one that cannot be read.
func (z *unzipper) failed(err error) error {
	z.out = nil
	var corrupt flate.CorruptInputError
	var internal flate.InternalError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return z.broken("it ends too early")
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader), errors.As(err, &corrupt), errors.As(err, &internal):
		return z.broken("it cannot be decompressed: it was changed")
	}
	return fmt.Errorf("audit: read log: %w", err)
}

// load decompresses all of it into memory.
func (z *unzipper) load() (io.ReaderAt, error) {
	text := make([]byte, z.size)
	if n, err := z.ReadAt(text, 0); err != nil && !(errors.Is(err, io.EOF) && int64(n) == z.size) {
		return nil, err
	}
	return bytes.NewReader(text), nil
}

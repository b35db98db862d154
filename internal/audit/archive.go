package audit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"moldable.sh/aivault/internal/durable"
)

// An archive is a log up to some line as one stream, for a backup:
// docs/backup-format.md specifies it. It holds no file names, only numbers of
// segments, so that nothing in it can lead a reader to write elsewhere.
const (
	archiveKey         = "key"         // then the length of key.pub, and it
	archiveCheckpoints = "checkpoints" // then the length of the checkpoints, and they
	archiveSegment     = "segment"     // then the segment's number; its lines follow
	archiveEnd         = "end"         // then seq and hash of the last line
	maxSegments        = 99_999_999
)

// archivedFiles are the files beside the segments that are part of a log.
func archivedFiles() []archivedFile {
	return []archivedFile{{archiveKey, keyName, maxNote}, {archiveCheckpoints, checkpointsName, MaxCheckpoints}}
}

type archivedFile struct {
	word, name string
	most       uint64 // bytes
}

// errArchive says that an archive was not made by Archive.
var errArchive = errors.New("audit: the copy of the log is damaged")

// Archive writes a copy of the log up to and including the line that to names,
// with what signs it so far. It checks each line on the way, and memory does
// not grow with the log. What is appended meanwhile is not part of it.
func (l *Log) Archive(ctx context.Context, to Head, w io.Writer) error {
	out := bufio.NewWriterSize(w, walkBuffer)
	for _, f := range archivedFiles() {
		data, err := readBeside(l.cfg.Dir, f.name, int64(f.most))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if f.word == archiveCheckpoints {
			data = notesUpTo(data, to.Seq)
		}
		fmt.Fprintf(out, "%s %d\n", f.word, len(data))
		_, _ = out.Write(data) // Flush tells
	}
	file := ""
	_, err := l.Walk(Head{}, func(line []byte, at Head) error {
		if at.File != file {
			if err := ctx.Err(); err != nil {
				return err
			}
			file = at.File
			fmt.Fprintf(out, "%s %d\n", archiveSegment, segmentNumber(file))
		}
		_, _ = out.Write(line)
		if err := out.WriteByte('\n'); err != nil {
			return err
		}
		if at.Seq < to.Seq {
			return nil
		}
		if at != to {
			return &ChainError{File: at.File, Line: at.Seq, Why: "another line stands where this one was"}
		}
		return errStop
	})
	switch {
	case err == nil:
		return &ChainError{File: to.File, Line: to.Seq, Why: "the log ends before it"}
	case !errors.Is(err, errStop):
		return err
	}
	fmt.Fprintf(out, "%s %d %s\n", archiveEnd, to.Seq, to.Hash)
	return out.Flush()
}

// notesUpTo cuts off the checkpoints of lines after seq, which the copy does
// not hold, and a torn last one.
func notesUpTo(data []byte, seq uint64) []byte {
	rest := data
	for {
		n, after, ok := cutNote(rest)
		if !ok || n.Head.Seq > seq {
			return data[:len(data)-len(rest)]
		}
		rest = after
	}
}

// Extract makes dir, which must not exist, and puts there the log that r, an
// archive, holds. It returns the position of the last line. Whether the lines
// follow each other is to be asked of the log that is then opened there.
func Extract(ctx context.Context, dir string, r io.Reader) (Head, error) {
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return Head{}, &fs.PathError{Op: "create", Path: dir, Err: fs.ErrExist}
	}
	if err := durable.MkdirAll(dir); err != nil {
		return Head{}, err
	}
	x := &extraction{dir: dir, in: bufio.NewReaderSize(r, 2*MaxLine)}
	end, err := x.run(ctx)
	if err = errors.Join(err, x.closeFile()); err != nil {
		return Head{}, err
	}
	return end, durable.SyncDir(dir)
}

// extraction is an archive being read.
type extraction struct {
	dir  string
	in   *bufio.Reader
	file *os.File // the segment that is written
	out  *bufio.Writer
	at   chain
}

func (x *extraction) run(ctx context.Context) (Head, error) {
	for _, f := range archivedFiles() {
		if err := x.beside(f); err != nil {
			return Head{}, err
		}
	}
	for {
		line, err := x.line()
		if err != nil {
			return Head{}, err
		}
		word, rest, _ := strings.Cut(line.command, " ")
		switch {
		case line.record != nil:
			err = x.record(line.record)
		case word == archiveSegment:
			if err = ctx.Err(); err == nil {
				err = x.segment(rest)
			}
		case word == archiveEnd:
			return x.end(rest)
		default:
			err = errArchive
		}
		if err != nil {
			return Head{}, err
		}
	}
}

// archived is a line of an archive: of the log itself, or of what stands
// between.
type archived struct {
	record  []byte // without its newline; valid until the next line
	command string
}

func (x *extraction) line() (archived, error) {
	b, err := x.in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull), errors.Is(err, io.EOF), err == nil && len(b) > MaxLine:
		return archived{}, errArchive
	case err != nil:
		return archived{}, err
	}
	b = b[:len(b)-1]
	if len(b) > 0 && b[0] == '{' {
		return archived{record: b}, nil
	}
	if len(b) > 128 {
		return archived{}, errArchive
	}
	return archived{command: string(b)}, nil
}

// beside writes one of the files that lie beside the segments.
func (x *extraction) beside(f archivedFile) error {
	line, err := x.line()
	if err != nil {
		return err
	}
	length, ok := strings.CutPrefix(line.command, f.word+" ")
	n, ok2 := decimal(length, 0, f.most)
	if !ok || !ok2 {
		return errArchive
	}
	if n == 0 {
		return nil
	}
	if err := x.create(f.name); err != nil {
		return err
	}
	if copied, err := io.CopyN(x.out, x.in, int64(n)); err != nil {
		if errors.Is(err, io.EOF) && copied < int64(n) {
			return errArchive
		}
		return err
	}
	return x.closeFile()
}

func (x *extraction) segment(number string) error {
	n, ok := decimal(number, 1, maxSegments)
	if !ok {
		return errArchive
	}
	name := segmentName(int(n))
	if before := segmentNumber(x.at.file); before != 0 && (n != uint64(before)+1 || x.at.offset == 0) {
		return errArchive
	}
	if err := x.closeFile(); err != nil {
		return err
	}
	x.at.file, x.at.offset = name, 0
	return x.create(name)
}

func (x *extraction) record(line []byte) error {
	seq, _, ok := parsePrefix(line)
	if !ok || x.file == nil {
		return errArchive
	}
	x.at.seq = seq
	x.at.setHash(line)
	x.at.offset += int64(len(line)) + 1
	_, _ = x.out.Write(line)
	return x.out.WriteByte('\n')
}

// end checks that the last line is the one that the archive says it is, and
// that nothing follows.
func (x *extraction) end(rest string) (Head, error) {
	seq, hash, _ := strings.Cut(rest, " ")
	n, ok := decimal(seq, 1, 1<<64-1)
	if !ok || n != x.at.seq || hash != string(x.at.hash[:]) || x.at.offset == 0 {
		return Head{}, errArchive
	}
	if _, err := x.in.ReadByte(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = errArchive
		}
		return Head{}, err
	}
	return x.at.head(), nil
}

func (x *extraction) create(name string) error {
	f, err := os.OpenFile(filepath.Join(x.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	x.file = f
	x.out = bufio.NewWriterSize(f, walkBuffer)
	return f.Chmod(0o600) // the umask may have taken bits away
}

// closeFile makes what was written durable.
func (x *extraction) closeFile() error {
	if x.file == nil {
		return nil
	}
	f := x.file
	x.file = nil
	return errors.Join(x.out.Flush(), f.Sync(), f.Close())
}

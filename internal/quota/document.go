package quota

import (
	"bytes"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"slices"
	"strconv"

	"moldable.sh/aivault/internal/strictjson"
)

// document is the file, as docs/vault-format.md specifies it.
type document struct {
	Version  int        `json:"aivaultLimits"`
	Sum      string     `json:"sum"` // CRC-32C, hex, of everything after this member
	BootID   string     `json:"bootId"`
	At       int64      `json:"atNs"`
	Wall     int64      `json:"wallNs"`
	FullFrom *int64     `json:"fullFromNs,omitzero"`
	Counts   []docCount `json:"counts"`
}

type docCount struct {
	Key    string  `json:"key"`
	Starts []int64 `json:"startsNs"`
}

const (
	beforeSum = `{"aivaultLimits":1,"sum":"`
	afterSum  = `",`
	sumSize   = 8
)

// maxFile bounds what is counted in all: some 1.5 million starts.
const maxFile = 32 << 20

var (
	errLost = errors.New("the count is lost")
	errMany = errors.New("more calls than can be counted")
)

// encode is the ledger's one encoding, written into buf.
func (l *ledger) encode(buf []byte) ([]byte, error) {
	buf = append(buf[:0], beforeSum+"00000000"+afterSum...)
	from := len(buf)
	buf = append(append(append(buf, `"bootId":"`...), l.at.bootID...), `","atNs":`...)
	buf = strconv.AppendInt(buf, l.at.boot, 10)
	buf = strconv.AppendInt(append(buf, `,"wallNs":`...), l.at.wall, 10)
	if l.full {
		buf = strconv.AppendInt(append(buf, `,"fullFromNs":`...), l.fullFrom, 10)
	}
	buf = append(buf, `,"counts":[`...)
	for i := range l.counts {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = append(append(append(buf, `{"key":"`...), l.counts[i].key...), `","startsNs":[`...)
		buf = append(append(buf, l.counts[i].encoded()...), `]}`...)
		if len(buf) > maxFile-8 {
			return nil, errMany
		}
	}
	buf = append(buf, "]}\n"...)
	putSum(buf, from)
	return buf, nil
}

func putSum(doc []byte, from int) {
	sum := crc32.Checksum(doc[from:], crc32.MakeTable(crc32.Castagnoli))
	hex.Encode(doc[len(beforeSum):], []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
}

// parse accepts exactly what encode writes; errLost is for everything else.
func parse(data []byte) (*ledger, error) {
	var d document
	if !bytes.HasPrefix(data, []byte(beforeSum)) || strictjson.Unmarshal(data, &d) != nil {
		return nil, errLost
	}
	l := &ledger{at: instant{d.BootID, d.At, d.Wall}, counts: make([]count, len(d.Counts))}
	if !printable(d.BootID, 64) || d.At < 0 || d.FullFrom != nil && !inWindow(*d.FullFrom, d.At) {
		return nil, errLost
	}
	if d.FullFrom != nil {
		l.full, l.fullFrom = true, *d.FullFrom
	}
	for i, c := range d.Counts {
		switch n := len(c.Starts); {
		case !printable(c.Key, MaxKeyBytes), i > 0 && c.Key <= d.Counts[i-1].Key:
			return nil, errLost
		case n == 0, n > MaxPerMinute, !slices.IsSorted(c.Starts), !inWindow(c.Starts[0], d.At), !inWindow(c.Starts[n-1], d.At):
			return nil, errLost
		}
		l.counts[i] = count{key: c.Key, starts: c.Starts}
	}
	again, err := l.encode(make([]byte, 0, len(data)))
	if err != nil || !bytes.Equal(again, data) {
		return nil, errLost
	}
	return l, nil
}

// inWindow says whether a start is one that a file written at the time at
// keeps.
func inWindow(start, at int64) bool { return start <= at && start > at-window }

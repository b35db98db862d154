package audit

import (
	"bytes"
	"fmt"

	"moldable.sh/aivault/internal/strictjson"
)

// Line is one line of the log, read for people and filters. Nothing that
// checks the chain needs it.
type Line struct {
	Seq  uint64 `json:"seq"`
	Prev string `json:"prev"` // hash of the line before, hex
	AtMs int64  `json:"atMs"`
	Record
}

// ParseLine reads one line, without its newline.
func ParseLine(line []byte) (Line, error) {
	var l Line
	if err := strictjson.Unmarshal(line, &l); err != nil {
		return Line{}, fmt.Errorf("audit: read line: %w", err)
	}
	return l, nil
}

// lineBody takes a line apart as far as every line is alike: its time, and the
// rest from the event's value on. ok is false for what does not begin as a
// line of the log does.
func lineBody(line []byte) (atMs int64, rest []byte, ok bool) {
	i := len(prefixSeq)
	for i < len(line) && '0' <= line[i] && line[i] <= '9' {
		i++
	}
	i += len(prefixPrev) + 64
	if i+len(prefixAt) > len(line) || string(line[i:i+len(prefixAt)]) != prefixAt || string(line[:len(prefixSeq)]) != prefixSeq {
		return 0, nil, false
	}
	digits, rest, ok := bytes.Cut(line[i+len(prefixAt):], []byte(prefixEvent))
	if !ok || len(digits) > 20 {
		return 0, nil, false
	}
	negative := len(digits) > 0 && digits[0] == '-' // a clock before 1970
	if negative {
		digits = digits[1:]
	}
	if len(digits) == 0 {
		return 0, nil, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, nil, false
		}
		atMs = atMs*10 + int64(c-'0')
	}
	if negative {
		atMs = -atMs
	}
	return atMs, rest, true
}

// closes says whether line is the last of a closed segment.
func closes(line []byte) bool {
	_, rest, ok := lineBody(line)
	return ok && bytes.HasPrefix(rest, []byte(LogRotated+`"`))
}

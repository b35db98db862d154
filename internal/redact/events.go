package redact

import (
	"bytes"
	"strings"
)

// In an event stream (text/event-stream) one event may have several lines of
// data, which whoever reads it joins: a value that is spread over them is
// there as it ever was, whether it is cut between two characters or within
// what one of them is spelled with.

// dataField is how such a line begins. One blank behind it is no part of the
// data.
const dataField = "data:"

// maxJoined is more than an escape takes, and what tells that it has ended.
const maxJoined = maxUnit + 4

// maxBreak is the longest that stands between two lines' data.
const maxBreak = len("\r\n" + dataField + " ")

func endsLine(c byte) bool { return c == '\n' || c == '\r' }

// special says whether c may be read in more than one way.
func special(c byte, events bool) bool { return introduces(c) || events && endsLine(c) }

// nextData reads a line's end at b[i] and the beginning of a further line of
// data behind it; next is where the data goes on.
func nextData(b []byte, i int, eof bool) (next int, st status) {
	if b[i] == '\r' {
		if i+1 == len(b) {
			return 0, ended(eof)
		}
		if b[i+1] == '\n' {
			i++
		}
	}
	rest := b[i+1:]
	if len(rest) < len(dataField) {
		if strings.HasPrefix(dataField, string(rest)) {
			return 0, ended(eof)
		}
		return 0, none
	}
	if string(rest[:len(dataField)]) != dataField {
		return 0, none
	}
	next = i + 1 + len(dataField)
	switch {
	case next == len(b):
		return next, ended(eof)
	case b[next] == ' ':
		next++
	}
	return next, complete
}

// line adds what the line's end at b[i] stands for beside itself: the one
// that joins two lines of data, and nothing. It is nothing once: what stands
// behind it is read with it.
func (us *units) line(b []byte, i int, eof bool) {
	next, st := nextData(b, i, eof)
	if st != complete {
		us.more = st == truncated
		return
	}
	us.add('\n', next)
	if next == len(b) {
		us.more = !eof
		return
	}
	us.add(b[next], next+1)
	if introduces(b[next]) {
		us.spelled(b, next, eof)
	}
}

// across is spelled where a line's end may stand within the escape: that is
// read as if it were not there.
func (us *units) across(b []byte, i int, eof bool) {
	var text [maxJoined]byte
	var ends [maxJoined + 1]int // of each character of text in b
	n, pos := 0, i
	for ; n < len(text) && pos < len(b); n++ {
		if n > 0 && endsLine(b[pos]) {
			next, st := nextData(b, pos, eof)
			if st == truncated || st == complete && next == len(b) && !eof {
				break
			}
			if st == complete {
				if pos = next; pos == len(b) {
					break
				}
			}
		}
		text[n] = b[pos]
		pos++
		ends[n+1] = pos
	}
	before := us.n
	us.one(text[:n], 0, eof && pos == len(b))
	for k := before; k < us.n; k++ {
		us.u[k].next = ends[us.u[k].next]
	}
	clear(text[:])
}

// breaks says whether the line's end at b[i] may be one between two lines of
// an event's data, and a value may go on behind it.
func (s *scanner) breaks(b []byte, i int, eof bool) bool {
	if i > 0 && endsLine(b[i-1]) && !s.ix.zoned['\n'] && !s.ix.zoned['\r'] {
		return false // an empty line ends the event
	}
	_, st := nextData(b, i, eof)
	return st != none
}

// firstBreak is the first of the line's ends in b from i on that breaks,
// len(b) if there is none.
func (s *scanner) firstBreak(b []byte, i int, eof bool) int {
	for ; i < len(b); i++ {
		j := bytes.IndexAny(b[i:], "\r\n")
		if j < 0 {
			break
		}
		if i += j; s.breaks(b, i, eof) {
			return i
		}
	}
	return len(b)
}

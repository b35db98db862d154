package redact

import "strings"

// In an event stream (text/event-stream) one event may have several lines of
// data, which whoever reads it joins: a value that is spread over them is
// there as it ever was.

// dataField is how such a line begins. One blank behind it is no part of the
// data.
const dataField = "data:"

func endsLine(c byte) bool { return c == '\n' || c == '\r' }

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

// line reads the line's end at b[i]: as it stands, as the one that joins two
// lines of data, and as nothing between the characters of a value. It is at
// most once nothing: the character behind it stands for both.
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
		us.escape(b[next], b, next+1, eof, maxNesting)
	}
}

// special says whether there is more than one reading of c to look for.
func special(c byte, events bool) bool { return introduces(c) || events && endsLine(c) }

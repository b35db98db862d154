package audit

import (
	"bytes"
	"slices"
	"strconv"

	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/strictjson"
)

// denials are the events that say that somebody did not get what they asked
// for.
var denials = [...]string{CallRefused, OperatorRefused, LoginRefused, VaultUnlockFailed}

// filter is a Query but for its limit. It decides on the bytes of a line
// wherever they say it: members and their names stand in a line as they are
// (docs/audit-format.md), and no string can hold what begins a member, because
// its quotes would be escaped.
type filter struct {
	q     Query
	isUID bool
	uid   uint32
}

func newFilter(q Query) *filter {
	uid, err := strconv.ParseUint(q.Caller, 10, 32)
	return &filter{q: q, uid: uint32(uid), isUID: err == nil}
}

// picks says whether the query picks a line. One that does not read as a line
// of the log is picked: nobody can tell what it hides.
func (f *filter) picks(line []byte) bool {
	at, rest, ok := lineBody(line)
	if !ok {
		return true
	}
	q := &f.q
	if q.SinceMs != 0 && at < q.SinceMs || q.UntilMs != 0 && at > q.UntilMs || q.BeforeMs != 0 && at >= q.BeforeMs {
		return false
	}
	if q.Denied && !isDenial(rest) {
		return false
	}
	if q.Capability != "" {
		if !matches(member(rest, `,"capability":"`), q.Capability) && !matches(member(rest, `,"set":"`), q.Capability) {
			return false
		}
	}
	return q.Caller == "" || f.calls(rest)
}

func isDenial(rest []byte) bool {
	event, _, _ := bytes.Cut(rest, []byte{'"'})
	for _, d := range denials {
		if string(event) == d {
			return true
		}
	}
	return false
}

// calls says whether the caller is the one that is asked for.
func (f *filter) calls(rest []byte) bool {
	_, caller, ok := bytes.Cut(rest, []byte(`,"caller":{"uid":`))
	if !ok {
		return false
	}
	if f.isUID {
		digits := 0
		for digits < len(caller) && '0' <= caller[digits] && caller[digits] <= '9' {
			digits++
		}
		if uid, err := strconv.ParseUint(string(caller[:digits]), 10, 32); err == nil && uint32(uid) == f.uid {
			return true
		}
	}
	user := member(caller, `,"user":"`)
	return user != nil && text(user) == f.q.Caller
}

// member returns what stands between the quotes of a string member, nil where
// there is no such member. opening is all of it up to its value.
func member(rest []byte, opening string) []byte {
	_, value, ok := bytes.Cut(rest, []byte(opening))
	if !ok {
		return nil
	}
	for i := 0; i < len(value); i++ {
		switch value[i] {
		case '\\':
			i++
		case '"':
			return value[:i]
		}
	}
	return nil
}

// text is the string that stands between quotes.
func text(value []byte) string {
	if bytes.IndexByte(value, '\\') < 0 {
		return string(value)
	}
	var s string
	if strictjson.Unmarshal(slices.Concat([]byte{'"'}, value, []byte{'"'}), &s) != nil {
		return ""
	}
	return s
}

func matches(value []byte, pattern string) bool {
	return value != nil && grant.Match(pattern, text(value))
}

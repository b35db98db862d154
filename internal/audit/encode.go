package audit

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Bounds of one line, in bytes of its written form. docs/audit-format.md
// states them.
const (
	MaxLine = 8192 // newline included

	maxPrefix   = len(prefixSeq) + 20 + len(prefixPrev) + 64 + len(prefixAt) + 20 + 1
	maxBody     = MaxLine - maxPrefix - 1
	maxSecrets  = 16
	longString  = 1024
	shortString = 256
	shortID     = 64
)

const (
	prefixSeq  = `{"seq":`
	prefixPrev = `,"prev":"`
	prefixAt   = `","atMs":`

	prefixEvent = `,"event":"` // after the time
)

// appendBody appends what of a line does not depend on its place in the log:
// everything from "event" to the closing brace. It encodes by hand: the
// escaping is the format's own, and it is three times as fast as reflection.
func appendBody(dst []byte, r *Record) ([]byte, error) {
	if r.Event == "" {
		return dst, errors.New("audit: a record without an event")
	}
	if len(r.Secrets) > maxSecrets {
		return dst, fmt.Errorf("audit: a record with %d secrets, at most %d are possible", len(r.Secrets), maxSecrets)
	}
	if len(r.Grants) > MaxGrants {
		return dst, fmt.Errorf("audit: a record with %d grants, at most %d are possible", len(r.Grants), MaxGrants)
	}
	start := len(dst)
	e := encoder{b: dst, limit: longString, idLimit: longString}
	e.record(r)
	if len(e.b)-start > maxBody {
		e = encoder{b: e.b[:start], limit: shortString, idLimit: shortID}
		e.record(r)
	}
	return e.b, nil
}

type encoder struct {
	b              []byte
	limit, idLimit int
}

// record writes the members in the order of docs/audit-format.md.
func (e *encoder) record(r *Record) {
	e.b = append(e.b, `"event":`...)
	e.quote(r.Event, e.limit)
	e.str(`,"requestId":`, r.RequestID)
	if r.Caller != nil {
		e.caller(r.Caller)
	}
	e.str(`,"capability":`, r.Capability)
	e.str(`,"credential":`, r.Credential)
	if len(r.Secrets) > 0 {
		e.secrets(r.Secrets)
	}
	e.str(`,"scope":`, r.Scope)
	e.str(`,"host":`, r.Host)
	e.str(`,"method":`, r.Method)
	e.str(`,"path":`, r.Path)
	e.str(`,"object":`, r.Object)
	e.str(`,"name":`, r.Name)
	e.str(`,"provider":`, r.Provider)
	e.str(`,"code":`, r.Code)
	e.str(`,"reason":`, r.Reason)
	e.num(`,"status":`, int64(r.Status))
	e.num(`,"sentBytes":`, r.SentBytes)
	e.num(`,"bytes":`, r.Bytes)
	e.num(`,"durationMs":`, r.DurationMs)
	e.num(`,"redactions":`, int64(r.Redactions))
	if r.Generation != 0 {
		e.b = strconv.AppendUint(append(e.b, `,"generation":`...), r.Generation, 10)
	}
	e.str(`,"hash":`, r.Hash)
	e.str(`,"set":`, r.Set)
	e.str(`,"binding":`, r.Binding)
	if len(r.Grants) > 0 {
		e.grants(r.Grants)
	}
	e.str(`,"session":`, r.Session)
	e.num(`,"count":`, int64(r.Count))
	e.b = append(e.b, '}')
}

func (e *encoder) caller(c *Caller) {
	e.b = strconv.AppendUint(append(e.b, `,"caller":{"uid":`...), uint64(c.UID), 10)
	e.b = strconv.AppendUint(append(e.b, `,"gid":`...), uint64(c.GID), 10)
	e.num(`,"pid":`, int64(c.PID))
	e.num(`,"startedAt":`, c.StartedAt)
	e.str(`,"user":`, c.User)
	e.str(`,"programClaimed":`, c.Program)
	if c.Operator {
		e.b = append(e.b, `,"operator":true`...)
	}
	e.b = append(e.b, '}')
}

func (e *encoder) secrets(used []SecretUse) {
	e.b = append(e.b, `,"secrets":[`...)
	for i, s := range used {
		if i > 0 {
			e.b = append(e.b, ',')
		}
		e.b = append(e.b, `{"id":`...)
		e.quote(s.ID, e.idLimit)
		e.b = strconv.AppendUint(append(e.b, `,"version":`...), s.Version, 10)
		e.b = append(e.b, '}')
	}
	e.b = append(e.b, ']')
}

func (e *encoder) grants(ids []string) {
	e.b = append(e.b, `,"grants":[`...)
	for i, id := range ids {
		if i > 0 {
			e.b = append(e.b, ',')
		}
		e.quote(id, e.idLimit)
	}
	e.b = append(e.b, ']')
}

func (e *encoder) str(name, s string) {
	if s != "" {
		e.b = append(e.b, name...)
		e.quote(s, e.limit)
	}
}

func (e *encoder) num(name string, n int64) {
	if n != 0 {
		e.b = strconv.AppendInt(append(e.b, name...), n, 10)
	}
}

const hexDigits = "0123456789abcdef"

// quote appends s as a JSON string of printable ASCII. Past limit bytes it
// stops and says how much of s it left out.
func (e *encoder) quote(s string, limit int) {
	b := append(e.b, '"')
	if len(s) <= limit && plain(s) {
		e.b = append(append(b, s...), '"')
		return
	}
	// What may follow the last whole character: the mark, at its longest.
	const room = len(`\u2026[+18446744073709551615]`)
	start, keep, kept := len(b), len(b), 0 // where the text can be cut, and what of s is before
	for i := 0; i < len(s); {
		c := s[i]
		size := 1
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case ' ' <= c && c <= '~':
			b = append(b, c)
		case c < utf8.RuneSelf:
			b = appendUnit(b, rune(c))
		default:
			var r rune
			r, size = utf8.DecodeRuneInString(s[i:])
			if r > 0xffff {
				b = appendUnit(b, 0xd800+(r-0x10000)>>10)
				r = 0xdc00 + (r-0x10000)&0x3ff
			}
			b = appendUnit(b, r)
		}
		if i += size; len(b)-start <= limit-room {
			keep, kept = len(b), i
		} else if len(b)-start > limit {
			b = append(b[:keep], `\u2026[+`...)
			b = append(strconv.AppendInt(b, int64(len(s)-kept), 10), ']')
			break
		}
	}
	e.b = append(b, '"')
}

// plain says whether s stands for itself between quotes.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

func appendUnit(b []byte, u rune) []byte {
	return append(b, '\\', 'u', hexDigits[u>>12&15], hexDigits[u>>8&15], hexDigits[u>>4&15], hexDigits[u&15])
}

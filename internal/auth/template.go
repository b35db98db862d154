package auth

import (
	"errors"
	"fmt"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

// maxTemplate bounds a template, and maxFieldName a name within it.
const (
	maxTemplate  = 1024
	maxFieldName = 64
)

// part is a piece of a template: literal text, or the field of that name.
type part struct{ literal, field string }

// template is text with placeholders, {{field}}.
type template []part

// parseTemplate reads a template. Its grammar leaves nothing to interpret:
// braces stand in placeholders only, and a placeholder holds a name only.
func parseTemplate(s string) (template, error) {
	if len(s) > maxTemplate {
		return nil, fmt.Errorf("longer than %d characters", maxTemplate)
	}
	var t template
	for s != "" {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			return append(t, part{literal: s}), nil
		}
		if i > 0 {
			t = append(t, part{literal: s[:i]})
			s = s[i:]
		}
		rest, ok := strings.CutPrefix(s, "{{")
		if !ok {
			return nil, errors.New("a brace stands outside of a placeholder, {{field}}")
		}
		name, after, ok := strings.Cut(rest, "}}")
		if !ok {
			return nil, errors.New("a placeholder is not closed with }}")
		}
		if !validFieldName(name) {
			return nil, fmt.Errorf("%q is not a field's name: letters, digits, _ and - are, behind a letter", name)
		}
		t = append(t, part{field: name})
		s = after
	}
	return t, nil
}

func validFieldName(s string) bool {
	if s == "" || len(s) > maxFieldName || !isLetter(s[0]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isLetter(c) && !isDigit(c) && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }

// hasField says whether anything of t comes from a field.
func (t template) hasField() bool {
	for _, p := range t {
		if p.field != "" {
			return true
		}
	}
	return false
}

// public says whether no field of t holds a secret.
func (t template) public(in Input) bool {
	for _, p := range t {
		if p.field != "" && !in.Public[p.field] {
			return false
		}
	}
	return true
}

// literalFits says whether every character of t's literal text fits.
func (t template) literalFits(fits func(c byte) bool) bool {
	for _, p := range t {
		for i := range len(p.literal) {
			if !fits(p.literal[i]) {
				return false
			}
		}
	}
	return true
}

// render fills t into one fresh slice, made large enough at once: growing it
// would leave a copy of a secret behind. escape, when not nil, is applied to
// fields, makes at most three bytes of one, and refuses what does not fit.
func (t template) render(in Input, escape func(dst []byte, c byte) ([]byte, bool)) ([]byte, error) {
	size := 0
	for _, p := range t {
		size += len(p.literal)
		if p.field == "" {
			continue
		}
		v := in.Fields[p.field]
		if v.IsZero() {
			return nil, api.Errorf(api.AuthFailed, "auth: the credential has no value for its field %q", p.field).
				WithHint("see what it lacks: aivault credential list")
		}
		if err := printable(p.field, v.Expose()); err != nil {
			return nil, err
		}
		size += v.Len()
		if escape != nil {
			size += 2 * v.Len()
		}
	}
	out := make([]byte, 0, size)
	for _, p := range t {
		if p.field == "" {
			out = append(out, p.literal...)
			continue
		}
		v := in.Fields[p.field].Expose()
		if escape == nil {
			out = append(out, v...)
			continue
		}
		for _, c := range v {
			var ok bool
			if out, ok = escape(out, c); !ok {
				clear(out)
				return nil, unfit(p.field, "holds a character that cannot stand in a path")
			}
		}
	}
	return out, nil
}

// printable refuses control characters: a line break that came along with a
// pasted key ends a header field, and a NUL cuts it.
func printable(field string, value []byte) error {
	for _, c := range value {
		if c == '\n' || c == '\r' {
			return unfit(field, "holds a line break")
		}
		if c < ' ' || c == 0x7f {
			return unfit(field, "holds a control character")
		}
	}
	return nil
}

// unfit makes the error for a secret that cannot be sent. why must not repeat
// any of it.
func unfit(field, why string) *api.Error {
	return api.Errorf(api.AuthFailed, "auth: the secret for field %q %s", field, why).
		WithHint("store the right value: aivault secrets rotate NAME")
}

// wipeAll overwrites what was rendered before something failed.
func wipeAll(values ...secret.Value) {
	for _, v := range values {
		v.Wipe()
	}
}

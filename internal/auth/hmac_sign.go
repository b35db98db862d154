package auth

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A signTemplate is what a message authentication code is made over:
//
//	template = *( text / "{{" field "}}" / "{" name "}" / "{sha256:" template "}" )
//	name     = "method" / "path" / "query" / "target" / "host" / "body" / "timestamp" / "nonce"
//	text     = printable ASCII and line feeds, without braces and backslashes
//
// A digest, which is 32 raw bytes, stands in no other digest. Every template
// has one reading, and what is read is written back the same.
type signTemplate []signPart

// A signPart has one of its members.
type signPart struct {
	text   string
	name   string // of the request
	field  string // of the credential
	digest signTemplate
}

const digestOpens = "{sha256:"

// signNames are the parts of a request that can be signed.
func signNames() []string {
	return []string{"method", "path", "query", "target", "host", "body", "timestamp", "nonce"}
}

func parseSign(s string) (signTemplate, error) {
	if len(s) > maxTemplate {
		return nil, fmt.Errorf("longer than %d characters", maxTemplate)
	}
	t, rest, err := parseSignParts(s, false)
	switch {
	case err != nil:
		return nil, err
	case rest != "":
		return nil, errors.New("a brace is closed that was not opened")
	case len(t.names()) == 0:
		return nil, errors.New("names nothing of the request, such as {body}")
	}
	return t, nil
}

// parseSignParts reads up to the end of s, or to the brace that closes a
// digest.
func parseSignParts(s string, inDigest bool) (t signTemplate, rest string, err error) {
	for s != "" && s[0] != '}' {
		var p signPart
		switch {
		case strings.HasPrefix(s, "{{"):
			name, after, ok := strings.Cut(s[2:], "}}")
			if !ok || !validFieldName(name) {
				return nil, "", errors.New("a field is written {{name}}, of letters, digits, _ and - behind a letter")
			}
			p.field, s = name, after
		case strings.HasPrefix(s, digestOpens):
			if inDigest {
				return nil, "", errors.New("a digest stands within a digest")
			}
			p.digest, s, err = parseSignParts(s[len(digestOpens):], true)
			switch {
			case err != nil:
				return nil, "", err
			case !strings.HasPrefix(s, "}"):
				return nil, "", errors.New("{sha256:…} is not closed")
			case len(p.digest) == 0:
				return nil, "", errors.New("{sha256:} has nothing to digest")
			}
			s = s[1:]
		case s[0] == '{':
			p.name, s, err = cutSignName(s)
		default:
			p.text, s, err = cutSignText(s)
		}
		if err != nil {
			return nil, "", err
		}
		t = append(t, p)
	}
	return t, s, nil
}

func cutSignName(s string) (name, rest string, err error) {
	for _, n := range signNames() {
		if after, ok := strings.CutPrefix(s[1:], n+"}"); ok {
			return n, after, nil
		}
	}
	return "", "", errors.New("what stands in braces is none of {" + strings.Join(signNames(), "}, {") + "}, {sha256:…} and {{field}}")
}

func cutSignText(s string) (text, rest string, err error) {
	end := strings.IndexAny(s, "{}")
	if end < 0 {
		end = len(s)
	}
	for i := range end {
		switch c := s[i]; {
		case c == '\\':
			return "", "", errors.New(`holds a backslash: a line feed is written as what it is, in a shell $'{method}\n{body}'`)
		case c != '\n' && (c < ' ' || c > '~'):
			return "", "", errors.New("holds a character that is neither printable ASCII nor a line feed")
		}
	}
	return s[:end], s[end:], nil
}

// String writes t as it is read.
func (t signTemplate) String() string {
	var b strings.Builder
	for _, p := range t {
		switch {
		case p.field != "":
			b.WriteString("{{" + p.field + "}}")
		case p.name != "":
			b.WriteString("{" + p.name + "}")
		case p.digest != nil:
			b.WriteString(digestOpens + p.digest.String() + "}")
		default:
			b.WriteString(p.text)
		}
	}
	return b.String()
}

// names are the parts of a request that t names.
func (t signTemplate) names() map[string]bool {
	all := map[string]bool{}
	for _, p := range t {
		if p.name != "" {
			all[p.name] = true
		}
		for name := range p.digest.names() {
			all[name] = true
		}
	}
	return all
}

// fields are the credential's fields that t names, as a template, in order.
func (t signTemplate) fields() template {
	var all template
	for _, p := range t {
		if p.field != "" {
			all = append(all, part{field: p.field})
		}
		all = append(all, p.digest.fields()...)
	}
	return all
}

// write writes the message to a hash.
func (t signTemplate) write(to io.Writer, name, field func(string) []byte) {
	put := func(b []byte) { _, _ = to.Write(b) } // no hash fails
	for _, p := range t {
		switch {
		case p.field != "":
			put(field(p.field))
		case p.name != "":
			put(name(p.name))
		case p.digest != nil:
			inner := sha256.New()
			p.digest.write(inner, name, field)
			put(inner.Sum(nil))
		default:
			put([]byte(p.text))
		}
	}
}

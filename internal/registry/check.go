package registry

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/strictjson"
)

// SchemaVersion is the one version of provider files that there is.
const SchemaVersion = 1

// Parse decodes and checks one provider file.
func Parse(file []byte) (*Provider, error) {
	var p Provider
	if err := strictjson.Unmarshal(file, &p); err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	return &p, nil
}

// check enforces what the schema says and what it cannot say.
func (p *Provider) check() error {
	if p.SchemaVersion != SchemaVersion {
		return fmt.Errorf("schemaVersion is not %d", SchemaVersion)
	}
	if !api.ValidID(p.ID) {
		return fmt.Errorf("provider %s: not a valid id", api.Quote(p.ID))
	}
	for what, s := range map[string]string{"title": p.Title, "category": p.Category, "getKey.text": p.GetKey.Text} {
		if err := checkLine(what, s); err != nil {
			return err
		}
	}
	for what, s := range map[string]string{"docs": p.Docs, "getKey.url": p.GetKey.URL} {
		if err := checkURL(what, s); err != nil {
			return err
		}
	}
	for _, n := range p.Notes {
		if err := checkLine("notes", n); err != nil {
			return err
		}
	}
	fields, err := p.checkSecrets()
	if err != nil {
		return err
	}
	if err := p.checkHosts(); err != nil {
		return err
	}
	if err := p.checkLogins(fields); err != nil {
		return err
	}
	if err := p.checkOwnHeaders(); err != nil {
		return err
	}
	if err := p.checkCapabilities(); err != nil {
		return err
	}
	return p.checkSets()
}

// checkLine wants one printable line of a bounded length.
func checkLine(what, s string) error {
	if s == "" || len(s) > 400 || strings.TrimSpace(s) != s {
		return fmt.Errorf("%s: empty, too long, or with blanks around it", what)
	}
	for _, c := range s {
		if !unicode.IsPrint(c) {
			return fmt.Errorf("%s: not one printable line", what)
		}
	}
	return nil
}

const (
	upperCase = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	lowerCase = "abcdefghijklmnopqrstuvwxyz"
	digits    = "0123456789"
)

// shaped says whether s is 1 to most characters: one of first, then any of
// first and rest.
func shaped(s, first, rest string, most int) bool {
	for i := range len(s) {
		if strings.IndexByte(first, s[i]) < 0 && (i == 0 || strings.IndexByte(rest, s[i]) < 0) {
			return false
		}
	}
	return s != "" && len(s) <= most
}

func validSecretName(s string) bool { return len(s) > 1 && shaped(s, upperCase, digits+"_", 64) }

// validField is the form of a secret's field and of a host parameter.
func validField(s string) bool { return shaped(s, lowerCase, digits+"_", 32) }

// validPointer says whether s is a JSON pointer (RFC 6901) to a member, of
// which a part '*' stands for every one.
func validPointer(s string) bool {
	if strings.HasSuffix(s, "/") || strings.Contains(s, "//") {
		return false
	}
	for i := range len(s) {
		if s[i] == '~' && (i+1 == len(s) || s[i+1] != '0' && s[i+1] != '1') {
			return false
		}
	}
	return strings.HasPrefix(s, "/") && checkLine("pointer", s) == nil
}

func (p *Provider) checkSecrets() (fields map[string]bool, err error) {
	if len(p.Secrets) == 0 {
		return nil, errors.New("no secret is named")
	}
	fields = map[string]bool{}
	names := map[string]bool{}
	for _, s := range p.Secrets {
		if !validField(s.Field) || fields[s.Field] {
			return nil, fmt.Errorf("secret %s: field %s is invalid or there twice", api.Quote(s.Name), api.Quote(s.Field))
		}
		fields[s.Field] = true
		for _, n := range append([]string{s.Name}, s.Aliases...) {
			key := FoldName(n)
			if !validSecretName(n) || names[key] {
				return nil, fmt.Errorf("secret name %s is invalid, or there twice but for case, '_' and look-alikes", api.Quote(n))
			}
			names[key] = true
		}
		if s.About != "" {
			if err := checkLine("secret "+s.Name, s.About); err != nil {
				return nil, err
			}
		}
	}
	return fields, nil
}

func (p *Provider) checkLogins(fields map[string]bool) error {
	if len(p.Logins) == 0 {
		return errors.New("no login is described")
	}
	used := map[string]bool{}
	params := map[string]bool{}
	for _, h := range p.HostParams {
		params[h.Name] = true
	}
	for i := range p.Logins {
		l := &p.Logins[i]
		if err := l.check(fields, params); err != nil {
			return err
		}
		for _, e := range l.endpoints() {
			if err := checkHostParams(e, params, map[string]bool{}); err != nil {
				return err
			}
		}
		if p.login(l.ID) != l {
			return fmt.Errorf("login %s is there twice", l.ID)
		}
		if l.Note != "" {
			if err := checkLine("login "+l.ID, l.Note); err != nil {
				return err
			}
		}
		for _, f := range l.Fields() {
			used[f] = true
		}
		if l.SigV4 != nil {
			for _, f := range l.SigV4.Fields {
				used[strings.TrimSuffix(f, "?")] = true
			}
		}
	}
	for f := range fields {
		if !used[f] {
			return fmt.Errorf("field %s is used by no login", f)
		}
	}
	return nil
}

// checkOwnHeaders checks the headers and parameters that are sent by default
// or left to the caller: none may be what the provider authenticates with.
func (p *Provider) checkOwnHeaders() error {
	auth := map[string]bool{}
	params := map[string]bool{}
	for i := range p.Logins {
		for _, h := range p.Logins[i].authHeaders() {
			auth[h] = true
		}
		spec := p.Logins[i].Auth
		params[strings.ToLower(spec.ParamName)] = true
		for _, f := range spec.Params {
			params[strings.ToLower(f.Name)] = true
		}
	}
	seen := map[string]bool{}
	for _, h := range p.StaticHeaders {
		name := foldHeader(h.Name)
		switch {
		case !validToken(h.Name) || strings.Contains(h.Name, "_") || seen[name]:
			return fmt.Errorf("static header %s: no plain name, or there twice", api.Quote(h.Name))
		case auth[name]:
			return fmt.Errorf("static header %s: the provider authenticates with it", h.Name)
		case h.Caller == (h.Value != ""):
			return fmt.Errorf("static header %s: wants either a value or caller", h.Name)
		case h.Caller && h.Fixed:
			return fmt.Errorf("static header %s: cannot be both fixed and the caller's", h.Name)
		case transport(name):
			return fmt.Errorf("static header %s: is about the connection", h.Name)
		}
		for i := range len(h.Value) {
			if h.Value[i] < 0x20 || h.Value[i] >= 0x7f {
				return fmt.Errorf("static header %s: value is not printable ASCII", h.Name)
			}
		}
		if strings.TrimSpace(h.Value) != h.Value {
			return fmt.Errorf("static header %s: value has blanks around it", h.Name)
		}
		seen[name] = true
	}
	for _, h := range p.CallerHeaders {
		if name := foldHeader(h); !validToken(h) || auth[name] || transport(name) {
			return fmt.Errorf("callerHeaders: %s cannot be the caller's", api.Quote(h))
		}
	}
	for _, q := range p.CallerQuery {
		if !validToken(q) || params[strings.ToLower(q)] {
			return fmt.Errorf("callerQuery: %s cannot be the caller's", api.Quote(q))
		}
	}
	return nil
}

// transport names the headers that an entry could do harm with; policy has
// the full list of what a caller may not set.
func transport(name string) bool {
	switch name {
	case "host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect",
		"cookie", "accept-encoding", "keep-alive":
		return true
	}
	return strings.HasPrefix(name, "proxy-") || strings.HasPrefix(name, "aivault-")
}

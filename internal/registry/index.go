package registry

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Summary is what is known of a provider before its file is decoded.
type Summary struct {
	ID           string
	Title        string
	Capabilities int // how many
	GetKey       GetKey
	Secrets      []SecretName
	First        []string // names to store for the first login that this version has
	AuthHeaders  []string // lower case, '_' read as '-'
	Hosts        []string // those without parameters
	HostPatterns []string
}

// summary is the part of a provider that goes into the index.
func (p *Provider) summary() Summary {
	s := Summary{
		ID: p.ID, Title: p.Title, Capabilities: len(p.Capabilities), GetKey: p.GetKey, Secrets: p.Secrets,
		First: p.firstSecrets(), HostPatterns: p.HostPatterns,
	}
	s.AuthHeaders = p.AuthHeaders()
	for _, h := range p.allHosts() {
		if !strings.Contains(h, "{") {
			s.Hosts = append(s.Hosts, h)
		}
	}
	return s
}

// AuthHeaders lists the headers that the provider's logins set, in lower case
// with '-' for '_', sorted.
func (p *Provider) AuthHeaders() []string {
	var names []string
	for i := range p.Logins {
		names = append(names, p.Logins[i].authHeaders()...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// firstSecrets names what to store for the provider's first login that this
// version has; the others are ways for special cases.
func (p *Provider) firstSecrets() []string {
	for _, dedicated := range [...]bool{false, true} { // where all are dedicated, one of them
		for i := range p.Logins {
			if l := &p.Logins[i]; l.NotYet == "" && l.Dedicated == dedicated {
				var names []string
				for _, f := range l.Fields() {
					names = append(names, p.secretName(f))
				}
				return names
			}
		}
	}
	return nil
}

// ByLogin says whether the provider's usual login is a person's: what is to be
// stored for it comes of aivault oauth login.
func (s Summary) ByLogin() bool {
	return len(s.First) == 1 && slices.ContainsFunc(s.Secrets, func(n SecretName) bool { return n.Name == s.First[0] && n.Field == loginField })
}

// loginField is the field of what a person's login leaves, by convention of
// the provider files.
const loginField = "oauth"

// ByLogin says whether a secret, by its name, is what a person's login at the
// provider leaves: aivault oauth login stores it.
func (p *Provider) ByLogin(name string) bool {
	return slices.ContainsFunc(p.Logins, func(l Login) bool {
		o := l.OAuth2
		return o != nil && l.NotYet == "" && o.AuthorizationEndpoint != "" && slices.Contains(o.Fields, loginField) && p.secretName(loginField) == name
	})
}

func (p *Provider) secretName(field string) string {
	for _, s := range p.Secrets {
		if s.Field == field {
			return s.Name
		}
	}
	return field
}

// The index is text that can be read at a glance and at every start: a line
// for each fact, whose first word says which, with tabs between its parts.
// Parts are single printable lines, so that none holds a tab.
const (
	indexProvider = "provider" // id, title, count of capabilities
	indexKey      = "key"      // where the key comes from: text, URL
	indexSecret   = "secret"   // field, public or secret, name, aliases, about
	indexFirst    = "first"    // names
	indexHeaders  = "headers"
	indexHosts    = "hosts"
	indexPatterns = "patterns"
)

const indexHead = "# Made from the provider files by `go generate ./registry`; read by internal/registry.\n"

// Index makes the index of providers. It fails where two of them claim one
// name.
func Index(providers ...*Provider) (string, error) {
	r, err := New(providers...)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(indexHead)
	line := func(parts ...string) { b.WriteString(strings.Join(parts, "\t") + "\n") }
	list := func(what string, words []string) {
		if len(words) > 0 {
			line(what, strings.Join(words, " "))
		}
	}
	for _, e := range r.entries {
		b.WriteByte('\n')
		line(indexProvider, e.ID, e.Title, strconv.Itoa(e.Capabilities))
		line(indexKey, e.GetKey.Text, e.GetKey.URL)
		for _, s := range e.Secrets {
			kind := "secret"
			if s.Public {
				kind = "public"
			}
			line(indexSecret, s.Field, kind, s.Name, strings.Join(s.Aliases, " "), s.About)
		}
		list(indexFirst, e.First)
		list(indexHeaders, e.AuthHeaders)
		list(indexHosts, e.Hosts)
		list(indexPatterns, e.HostPatterns)
	}
	return b.String(), nil
}

// parseIndex reads what Index made.
func parseIndex(text string) ([]*entry, error) {
	var all []*entry
	var e *entry
	number := 0
	for line := range strings.SplitSeq(text, "\n") {
		number++
		if line == "" || line[0] == '#' {
			continue
		}
		what, rest, _ := strings.Cut(line, "\t")
		if what == indexProvider {
			e = new(entry)
			all = append(all, e)
		}
		if e == nil || !e.Summary.read(what, rest) {
			return nil, fmt.Errorf("line %d cannot be read", number)
		}
	}
	return all, nil
}

// read takes one line about the provider.
func (s *Summary) read(what, rest string) bool {
	var parts [5]string
	n := 0
	for part := range strings.SplitSeq(rest, "\t") {
		if n == len(parts) {
			return false
		}
		parts[n] = part
		n++
	}
	var err error
	switch {
	case what == indexProvider && n == 3:
		s.ID, s.Title = parts[0], parts[1]
		s.Capabilities, err = strconv.Atoi(parts[2])
	case what == indexKey && n == 2:
		s.GetKey = GetKey{Text: parts[0], URL: parts[1]}
	case what == indexSecret && n == 5:
		s.Secrets = append(s.Secrets, SecretName{
			Field: parts[0], Public: parts[1] == "public", Name: parts[2], Aliases: words(parts[3]), About: parts[4],
		})
	case what == indexFirst && n == 1:
		s.First = words(parts[0])
	case what == indexHeaders && n == 1:
		s.AuthHeaders = words(parts[0])
	case what == indexHosts && n == 1:
		s.Hosts = words(parts[0])
	case what == indexPatterns && n == 1:
		s.HostPatterns = words(parts[0])
	default:
		return false
	}
	return err == nil
}

func words(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, " ")
}

package registry

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"moldable.sh/aivault/internal/api"
)

func (p *Provider) checkCapabilities() error {
	if len(p.Capabilities) == 0 {
		return errors.New("no capability is described")
	}
	seen := map[string]bool{}
	for i := range p.Capabilities {
		c := &p.Capabilities[i]
		owner, _, _ := strings.Cut(c.ID, "/")
		if !ValidCapabilityID(c.ID) || owner != p.ID {
			return fmt.Errorf("capability %s: id is not %s/name", api.Quote(c.ID), p.ID)
		}
		if seen[c.ID] {
			return fmt.Errorf("capability %s is there twice", c.ID)
		}
		seen[c.ID] = true
		if err := p.checkCapability(c); err != nil {
			return fmt.Errorf("capability %s: %w", c.ID, err)
		}
	}
	for i := range p.Capabilities {
		if err := p.checkOverlaps(&p.Capabilities[i]); err != nil {
			return fmt.Errorf("capability %s: %w", p.Capabilities[i].ID, err)
		}
	}
	return nil
}

// checkOverlaps wants capabilities of the provider. Whether they admit common
// calls is judged by package lint.
func (p *Provider) checkOverlaps(c *Capability) error {
	for i, id := range c.Overlaps {
		if p.capability(id) == nil || id == c.ID || slices.Contains(c.Overlaps[:i], id) {
			return fmt.Errorf("overlaps: %s is no other capability of the provider, or there twice", api.Quote(id))
		}
	}
	return nil
}

func (p *Provider) checkCapability(c *Capability) error {
	if err := checkLine("description", c.Description); err != nil {
		return err
	}
	for what, s := range map[string]string{"example": c.Example, "note": c.Note} {
		if s == "" {
			continue
		}
		if err := checkLine(what, s); err != nil {
			return err
		}
	}
	if !slices.Contains([]string{"read", "write", "admin", "mixed"}, c.Access) {
		return fmt.Errorf("access %s is not read, write, admin or mixed", api.Quote(c.Access))
	}
	if len(c.Methods) == 0 || len(c.Paths) == 0 {
		return errors.New("no method or no path")
	}
	for i, m := range c.Methods {
		if !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}, m) || slices.Contains(c.Methods[:i], m) {
			return fmt.Errorf("method %s is unknown or there twice", api.Quote(m))
		}
		if c.Access == "read" && m != "GET" && m != "HEAD" && m != "POST" {
			return fmt.Errorf("a read capability has the method %s", m)
		}
	}
	for i, rule := range c.Paths {
		if err := checkRule(rule); err != nil {
			return err
		}
		if slices.Contains(c.Paths[:i], rule) {
			return fmt.Errorf("path %s is there twice", rule)
		}
	}
	if err := checkPointers(c.IssuesToken); err != nil {
		return err
	}
	for _, m := range c.MatchHeader {
		name, value, ok := strings.Cut(m, ": ")
		if !ok || !validToken(name) || value == "" || strings.TrimSpace(value) != value || checkLine("matchHeader", m) != nil {
			return fmt.Errorf("matchHeader %s is not of the form Name: value", api.Quote(m))
		}
	}
	if err := checkOperation(c); err != nil {
		return err
	}
	if err := checkDefault(c); err != nil {
		return err
	}
	return p.checkWay(c)
}

// checkPointers is a light check: policy compiles them all in a test.
func checkPointers(list []string) error {
	for i, ptr := range list {
		switch {
		case !validPointer(ptr):
			return fmt.Errorf("issuesToken %s is no JSON pointer to a member", api.Quote(ptr))
		case slices.Contains(list[:i], ptr):
			return fmt.Errorf("issuesToken %s is there twice", api.Quote(ptr))
		}
	}
	return nil
}

// checkDefault wants a default call that says something and that the
// capability's own methods allow; that its rules admit the path is judged by
// policy, in a test over the whole registry.
func checkDefault(c *Capability) error {
	d := c.Default
	switch {
	case d == nil:
		return nil
	case d.Method == "" && d.Path == "":
		return errors.New("default says nothing")
	case d.Method != "" && !slices.Contains(c.Methods, d.Method):
		return errors.New("default method is not one of the methods")
	case d.Path != "" && (checkRule(d.Path) != nil || d.Path[0] != '/' || strings.Contains(d.Path, "*")):
		return errors.New("default path is no plain path")
	}
	return nil
}

// checkWay wants each capability to have a login that can reach its hosts.
func (p *Provider) checkWay(c *Capability) error {
	all := p.allHosts()
	for i, h := range c.Hosts {
		if !slices.Contains(all, h) || slices.Contains(c.Hosts[:i], h) {
			return fmt.Errorf("host %s is not one of the provider's, or there twice", api.Quote(h))
		}
	}
	for i, id := range c.Logins {
		if p.login(id) == nil || slices.Contains(c.Logins[:i], id) {
			return fmt.Errorf("login %s is unknown or there twice", api.Quote(id))
		}
	}
	logins := p.LoginsOf(c)
	if len(logins) == 0 {
		return errors.New("every login is dedicated, and it names none")
	}
	for _, l := range logins {
		reach := p.Hosts
		if len(l.Hosts) > 0 {
			reach = l.Hosts
		}
		for _, h := range p.HostsOf(c) {
			if !slices.Contains(reach, h) {
				return fmt.Errorf("login %s does not serve host %s", l.ID, h)
			}
		}
		if c.WebSocket != (l.NotYet == "websocket") {
			return fmt.Errorf("login %s: a websocket capability and a login that waits for websocket belong together", l.ID)
		}
	}
	return nil
}

// checkRule is a light check of a path rule; policy compiles every rule of
// the registry in a test, with the rules that requests are judged by.
func checkRule(rule string) error {
	path := strings.TrimPrefix(rule, "=")
	bad := func(why string) error { return fmt.Errorf("path %s %s", api.Quote(rule), why) }
	if !strings.HasPrefix(path, "/") {
		return bad("does not start with '/' or '=/'")
	}
	if len(rule) > 1024 || !utf8.ValidString(rule) {
		return bad("is too long or not UTF-8")
	}
	unescaped := strings.ReplaceAll(path, "%2F", "")
	if strings.ContainsAny(unescaped, "?#\\;%\"<>^`{|} ") {
		return bad("holds a character that no rule may have")
	}
	for i := range len(path) {
		if path[i] < 0x20 || path[i] >= 0x7f {
			return bad("holds more than printable ASCII")
		}
	}
	if strings.Contains(path, "**") {
		return bad("holds '**'")
	}
	segs := strings.Split(path[1:], "/")
	for i, s := range segs {
		if s == "" && i == len(segs)-1 {
			continue // one trailing '/'
		}
		for part := range strings.SplitSeq(s, "%2F") {
			if strings.Trim(part, ".") == "" {
				return bad("has an empty or '.' segment, or such a part beside %2F")
			}
		}
	}
	return nil
}

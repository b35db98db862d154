package registry

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
)

// checkSets wants each set to name capabilities of its provider that exist.
// An id that is a capability's too means that capability for every rule that
// names it, so it has to be one of the set's.
func (p *Provider) checkSets() error {
	for i := range p.Sets {
		s := &p.Sets[i]
		owner, _, _ := strings.Cut(s.ID, "/")
		if !ValidCapabilityID(s.ID) || owner != p.ID {
			return fmt.Errorf("set %s: id is not %s/name", api.Quote(s.ID), p.ID)
		}
		if slices.ContainsFunc(p.Sets[:i], func(other Set) bool { return other.ID == s.ID }) {
			return fmt.Errorf("set %s is there twice", s.ID)
		}
		if err := p.checkSet(s); err != nil {
			return fmt.Errorf("set %s: %w", s.ID, err)
		}
	}
	return nil
}

func (p *Provider) checkSet(s *Set) error {
	if err := checkLine("description", s.Description); err != nil {
		return err
	}
	if len(s.Members) == 0 {
		return errors.New("no member")
	}
	for i, id := range s.Members {
		if p.capability(id) == nil || slices.Contains(s.Members[:i], id) {
			return fmt.Errorf("member %s is no capability of the provider, or there twice", api.Quote(id))
		}
	}
	if p.capability(s.ID) != nil && !slices.Contains(s.Members, s.ID) {
		return errors.New("a capability has this id, and is no member")
	}
	if s.Default == "" {
		return nil
	}
	if !slices.Contains(s.Members, s.Default) {
		return errors.New("default is no member")
	}
	if method, path := p.capability(s.Default).DefaultCall(); method == "" || path == "" {
		return fmt.Errorf("default %s has no complete default call", s.Default)
	}
	return nil
}

func (p *Provider) capability(id string) *Capability {
	for i := range p.Capabilities {
		if p.Capabilities[i].ID == id {
			return &p.Capabilities[i]
		}
	}
	return nil
}

// DefaultCall is what leaving out method and path means: what the entry says,
// else the only method and the only path, where that stands for one path.
func (c *Capability) DefaultCall() (method, path string) {
	if c.Default != nil {
		method, path = c.Default.Method, c.Default.Path
	}
	if method == "" && len(c.Methods) == 1 {
		method = c.Methods[0]
	}
	if path == "" && len(c.Paths) == 1 && !strings.Contains(c.Paths[0], "*") {
		path = strings.TrimPrefix(c.Paths[0], "=")
	}
	return method, path
}

package grant

import (
	"slices"
	"strings"
	"time"

	"moldable.sh/aivault/internal/api"
)

// Rules are a vault's grants, prepared. They are immutable.
type Rules struct {
	allow bool // who has no grant may call whatever is ready
	uids  map[uint32][]*entry
	gids  map[uint32][]*entry
}

// NewRules prepares grants. def is what a caller without any may do:
// api.GrantAllow, and anything else is deny. A grant that contradicts itself
// (a group without a workspace, two consumers) allows nothing, and keeps the
// default away from its consumers like any other.
func NewRules(def string, grants []api.Grant) *Rules {
	r := &Rules{allow: def == api.GrantAllow, uids: map[uint32][]*entry{}, gids: map[uint32][]*entry{}}
	grants = slices.Clone(grants)
	for i := range grants {
		e := newEntry(grants, i)
		c := &grants[i].Consumer
		if c.UID != nil {
			r.uids[*c.UID] = append(r.uids[*c.UID], e)
		}
		if c.GID != nil {
			r.gids[*c.GID] = append(r.gids[*c.GID], e)
		}
	}
	return r
}

// Of is what one caller may do. The operator may do everything. Who has
// grants of its own has those, expired ones and empty ones included; else who
// is in groups with grants has all of theirs; else the default holds. Where
// some group has grants, a caller whose groups are unknown has no default: it
// might be in that group. Nor has a caller in a container where anyone at all
// has grants: in a user namespace of its own a process lays down its groups,
// and takes one of the subordinate uids that its user has beside their own.
func (r *Rules) Of(c Caller) Access {
	if c.Operator {
		return Access{everything: true}
	}
	if own := r.uids[c.UID]; len(own) > 0 {
		return Access{entries: own}
	}
	byDefault := Access{everything: r.allow && !(c.Contained && len(r.uids)+len(r.gids) > 0)}
	if len(r.gids) == 0 {
		return byDefault
	}
	entries := r.gids[c.GID]
	for i, gid := range c.Groups {
		if gid == c.GID || slices.Contains(c.Groups[:i], gid) {
			continue
		}
		switch theirs := r.gids[gid]; {
		case len(theirs) == 0:
		case len(entries) == 0:
			entries = theirs
		default:
			entries = slices.Concat(entries, theirs)
		}
	}
	if len(entries) == 0 {
		if c.Groups == nil {
			return Access{}
		}
		return byDefault
	}
	return Access{entries: entries}
}

// Access is what one caller may do. The zero Access is nothing.
type Access struct {
	everything bool
	entries    []*entry
}

// Everything says that no grant limits the caller.
func (a Access) Everything() bool { return a.everything }

// Knows says whether the caller may know of a capability: some grant of its
// that has not expired names it, whatever the context.
func (a Access) Knows(capability string, now time.Time) bool {
	if a.everything {
		return true
	}
	ms := now.UnixMilli()
	for _, e := range a.entries {
		if e.holds(ms) && e.names(capability) {
			return true
		}
	}
	return false
}

// Reaches says whether the caller may make calls of a capability in a
// context at all.
func (a Access) Reaches(capability string, context Scope, now time.Time) bool {
	if a.everything {
		return true
	}
	ms := now.UnixMilli()
	for _, e := range a.entries {
		if e.holds(ms) && e.in(context) && e.names(capability) {
			return true
		}
	}
	return false
}

// Permits lists the grants that let the caller make a call of capability in
// context with a credential that belongs to scope credential (for one that is
// attached to the context's group: that group's scope). ok is false when none
// does, and whenever the context does not see the credential; a caller whom
// no grant limits is permitted by no grant in particular. The list is not the
// caller's to change.
func (a Access) Permits(capability string, context, credential Scope, now time.Time) (grants []api.Grant, ok bool) {
	if !context.Sees(credential) {
		return nil, false
	}
	if a.everything {
		return nil, true
	}
	ms := now.UnixMilli()
	for _, e := range a.entries {
		if !e.holds(ms) || !e.in(context) || e.grant[0].StrictScope && credential != context || !e.names(capability) {
			continue
		}
		if grants == nil {
			grants = e.grant
		} else {
			grants = append(grants, e.grant[0]) // its capacity is 1: this copies
		}
	}
	return grants, grants != nil
}

// entry is one grant, prepared.
type entry struct {
	grant []api.Grant // the one, so that it is a list already
	dead  bool        // contradicts itself
	scope Scope       // in which it holds; global: in every one
	ids   []string    // sorted
	globs []string
}

func newEntry(grants []api.Grant, i int) *entry {
	g := &grants[i]
	e := &entry{grant: grants[i : i+1 : i+1], scope: Scope{Workspace: g.WorkspaceID, Group: g.GroupID}}
	e.dead = (g.Consumer.UID != nil && g.Consumer.GID != nil) || (g.WorkspaceID == "" && (g.GroupID != "" || g.StrictScope))
	for _, p := range g.Capabilities {
		switch {
		case !ValidPattern(p):
		case strings.Contains(p, "*"):
			e.globs = append(e.globs, p)
		default:
			e.ids = append(e.ids, p)
		}
	}
	slices.Sort(e.ids)
	return e
}

// holds says whether the grant lets anything through at a time.
func (e *entry) holds(ms int64) bool {
	until := e.grant[0].ExpiresAtMs
	return !e.dead && (until == 0 || ms < until)
}

// in says whether the grant is for calls in a context.
func (e *entry) in(context Scope) bool {
	switch {
	case e.grant[0].StrictScope || e.scope.Group != "":
		return context == e.scope
	case e.scope == Global:
		return true
	}
	return context.Workspace == e.scope.Workspace
}

// names says whether one of the grant's patterns matches a capability.
func (e *entry) names(capability string) bool {
	if _, ok := slices.BinarySearch(e.ids, capability); ok {
		return true
	}
	for _, p := range e.globs {
		if glob(p, capability) {
			return true
		}
	}
	return false
}

package grant

import (
	"time"

	"moldable.sh/aivault/internal/api"
)

// ValidPattern says whether s is a pattern of capability ids: an id, in which
// '*' stands for any text, slashes included: provider/*, provider/name, *-read
// and * alone.
func ValidPattern(s string) bool { panic("contract") }

// Match says whether a pattern matches a capability's id. What is no pattern
// matches nothing.
func Match(pattern, id string) bool { panic("contract") }

// Covers says whether one of the patterns matches id.
func Covers(patterns []string, id string) bool { panic("contract") }

// On says whether a capability is on after the switches: the last that
// matches counts. Without one it is on unless it is an admin's; an admin
// capability is turned on by its own id alone, never by a wildcard.
func On(switches []api.Switch, id string, admin bool) bool { panic("contract") }

// Rules are a vault's grants, prepared. They are immutable.
type Rules struct{}

// NewRules prepares grants. def is what a caller without any may do:
// api.GrantAllow, and anything else is deny.
func NewRules(def string, grants []api.Grant) *Rules { panic("contract") }

// Of is what one caller may do. The operator may do everything. Who has
// grants of its own has those, expired ones and empty ones included; else who
// is in groups with grants has all of theirs; else the default holds.
func (r *Rules) Of(c Caller) Access { panic("contract") }

// Access is what one caller may do.
type Access struct{}

// Everything says that no grant limits the caller.
func (a Access) Everything() bool { panic("contract") }

// Knows says whether the caller may know of a capability: some grant of its
// that has not expired names it, whatever the context.
func (a Access) Knows(capability string, now time.Time) bool { panic("contract") }

// Reaches says whether the caller may make calls of a capability in a
// context at all.
func (a Access) Reaches(capability string, context Scope, now time.Time) bool { panic("contract") }

// Permits lists the grants that let the caller make a call of capability in
// context with a credential that belongs to scope credential (for one that is
// attached to the context's group: that group's scope). ok is false when none
// does; a caller whom no grant limits is permitted by no grant in particular.
func (a Access) Permits(capability string, context, credential Scope, now time.Time) (grants []api.Grant, ok bool) {
	panic("contract")
}

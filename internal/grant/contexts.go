package grant

import (
	"slices"
	"time"
)

// Contexts lists the contexts that the caller's grants of a capability are
// for, each once: global stands for a grant that holds in every context, a
// workspace for one that may hold in its groups too. None limits a caller who
// may do everything, so that there are none.
func (a Access) Contexts(capability string, now time.Time) []Scope {
	var list []Scope
	ms := now.UnixMilli()
	for _, e := range a.entries {
		if e.holds(ms) && !slices.Contains(list, e.scope) && e.names(capability) {
			list = append(list, e.scope)
		}
	}
	return list
}

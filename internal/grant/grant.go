// Package grant knows who asks and what for: callers as the kernel names
// them, and the scopes that keep tenants apart. It is pure: it reads no file
// and asks no one.
package grant

import (
	"strings"

	"moldable.sh/aivault/internal/api"
)

// Caller is who made a request. Every field but Program comes from the
// kernel, never from what the caller says.
type Caller struct {
	UID       uint32
	GID       uint32
	PID       int32    // 0 when the peer lives in another pid namespace
	StartedAt int64    // the process's start, in clock ticks since boot; 0 when unknown
	User      string   // name of UID, or "" when the system knows none
	Groups    []uint32 // of the connection's process, GID included; nil when unknown
	Program   string   // the executable's name as the process shows it: a claim
	Contained bool     // the peer lives in a container
	Operator  bool     // may change the vault
}

// Scope is whose a secret or credential is. The zero Scope is global.
type Scope struct {
	Workspace string
	Group     string // only with Workspace
}

// Global is the scope that every call sees.
var Global = Scope{}

// String is global, workspace:W or group:W:G. A group without a workspace is
// no scope: what it prints as, ParseScope refuses.
func (s Scope) String() string {
	switch {
	case s == Global:
		return "global"
	case s.Group == "":
		return "workspace:" + s.Workspace
	}
	return "group:" + s.Workspace + ":" + s.Group
}

// Flags names the scope on a command line, with a blank before each flag: none
// for the global one.
func (s Scope) Flags() string {
	flags := ""
	if s.Workspace != "" {
		flags += " --workspace-id " + s.Workspace
	}
	if s.Group != "" {
		flags += " --group-id " + s.Group
	}
	return flags
}

// ParseScope reads what String writes.
func ParseScope(s string) (Scope, bool) {
	kind, rest, _ := strings.Cut(s, ":")
	w, g, _ := strings.Cut(rest, ":")
	switch {
	case s == "global":
		return Global, true
	case kind == "workspace" && api.ValidID(rest):
		return Scope{Workspace: rest}, true
	case kind == "group" && api.ValidID(w) && api.ValidID(g):
		return Scope{Workspace: w, Group: g}, true
	}
	return Global, false
}

// Sees says whether a call made in context s may use what belongs to scope t:
// its own group's, its workspace's, and what is global.
func (s Scope) Sees(t Scope) bool {
	return t == Global || t == s || (t.Group == "" && t.Workspace == s.Workspace)
}

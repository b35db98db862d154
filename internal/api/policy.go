package api

// Policy is what limits the calls of one capability beside its rules. A zero
// field limits nothing.
type Policy struct {
	Capability string `json:"capability"`
	// In any 60 seconds at most so many calls start: of all callers together,
	// and of each caller.
	RatePerMinute          int   `json:"rateLimitPerMinute,omitzero"`
	RatePerCallerPerMinute int   `json:"rateLimitPerMinutePerCaller,omitzero"`
	MaxRequestBodyBytes    int64 `json:"maxRequestBodyBytes,omitzero"`
	MaxResponseBodyBytes   int64 `json:"maxResponseBodyBytes,omitzero"` // as the caller gets it
	// ResponseBlock are names of JSON members that are removed from answers,
	// at any depth.
	ResponseBlock []string `json:"responseBlock,omitzero"`
	// AllowQuery, when not empty, are the only query parameters that a call
	// may have; DenyQuery are some that it may not.
	AllowQuery []string `json:"allowQuery,omitzero"`
	DenyQuery  []string `json:"denyQuery,omitzero"`
	// RequireJSON is what the request's body must say.
	RequireJSON []RequireJSON `json:"requireJson,omitzero"`
}

// RequireJSON wants the value at an RFC 6901 pointer to be one of Values: a
// string of that text, or a number or literal written so.
type RequireJSON struct {
	Pointer string   `json:"pointer"`
	Values  []string `json:"values"`
}

// PolicyChange is the body of POST /aivault/policies. What it leaves out
// stays as it was. Lift names limits to lift, as Policy's JSON members.
type PolicyChange struct {
	Capability             string        `json:"capability"`
	RatePerMinute          *int          `json:"rateLimitPerMinute,omitzero"`
	RatePerCallerPerMinute *int          `json:"rateLimitPerMinutePerCaller,omitzero"`
	MaxRequestBodyBytes    *int64        `json:"maxRequestBodyBytes,omitzero"`
	MaxResponseBodyBytes   *int64        `json:"maxResponseBodyBytes,omitzero"`
	ResponseBlock          []string      `json:"responseBlock,omitzero"`
	AllowQuery             []string      `json:"allowQuery,omitzero"`
	DenyQuery              []string      `json:"denyQuery,omitzero"`
	RequireJSON            []RequireJSON `json:"requireJson,omitzero"`
	Lift                   []string      `json:"lift,omitzero"`
}

// PolicyList is the answer of GET /aivault/policies, and of GET, POST and
// DELETE /aivault/policies/ID with the one policy that they are about.
type PolicyList struct {
	Policies []Policy `json:"policies"`
	// Overlaps, of POST alone, are capabilities that are on and admit some of
	// the same calls: the limits are not theirs.
	Overlaps []string `json:"overlaps,omitzero"`
}

// Switch turns the capabilities that Pattern matches on or off. Of several
// that match, the last one counts.
type Switch struct {
	Pattern string `json:"pattern"`
	On      bool   `json:"on"`
}

// SwitchRequest is the body of POST /aivault/capabilities/enable and disable.
type SwitchRequest struct {
	Patterns []string `json:"patterns"`
}

// Switched is the answer: what was changed by it.
type Switched struct {
	On           bool     `json:"on"`
	Capabilities []string `json:"capabilities"`
	// Overlaps, where something was turned off, are capabilities that are on
	// and admit some of its calls, too.
	Overlaps []string `json:"overlaps,omitzero"`
	// Limited, where something was turned on, are capabilities with a policy
	// that does not hold for those of their calls that it admits, too.
	Limited []string `json:"limited,omitzero"`
}

// Consumer is a user or a group of the system: exactly one of the two ids.
// The names are what they were called when the entry was made.
type Consumer struct {
	UID   *uint32 `json:"uid,omitzero"`
	User  string  `json:"user,omitzero"`
	GID   *uint32 `json:"gid,omitzero"`
	Group string  `json:"group,omitzero"`
}

// ConsumerRef names a consumer in a request: exactly one of the three.
type ConsumerRef struct {
	User      string  `json:"user,omitzero"`
	UID       *uint32 `json:"uid,omitzero"`
	GroupName string  `json:"groupName,omitzero"`
}

// Binding says which credential the calls of a capability use, in a scope and
// for a consumer.
type Binding struct {
	ID          string    `json:"bindingId"`
	Capability  string    `json:"capability"` // pattern
	Credential  string    `json:"credential"`
	Scope       string    `json:"scope"`             // of the calls that it is for
	Consumer    *Consumer `json:"consumer,omitzero"` // absent: everyone
	CreatedAtMs int64     `json:"createdAtMs"`
}

// BindingCreate is the body of POST /aivault/bindings. It replaces the
// binding of the same capability, scope and consumer.
type BindingCreate struct {
	Capability string       `json:"capability"`
	Credential string       `json:"credential"`
	Scope      string       `json:"scope,omitzero"` // default global
	Consumer   *ConsumerRef `json:"consumer,omitzero"`
}

// BindingDelete is the body of DELETE /aivault/bindings: a binding by its id,
// or by what it is for.
type BindingDelete struct {
	ID         string       `json:"bindingId,omitzero"`
	Capability string       `json:"capability,omitzero"`
	Scope      string       `json:"scope,omitzero"`
	Consumer   *ConsumerRef `json:"consumer,omitzero"`
}

// BindingList is the answer of GET /aivault/bindings.
type BindingList struct {
	Bindings []Binding `json:"bindings"`
}

// Defaults for callers who have no grant.
const (
	GrantAllow = "allow" // they may call whatever is ready
	GrantDeny  = "deny"
)

// Grant lets a user, or a group's members, call capabilities. Who has a grant
// may call nothing else; a user's own grants stand in place of its groups'.
type Grant struct {
	ID           string   `json:"grantId"`
	Consumer     Consumer `json:"consumer"`
	Capabilities []string `json:"capabilities"` // patterns; none: nothing
	// WorkspaceID and GroupID, when given, are the context in which alone
	// the grant holds; a workspace's holds for its groups too.
	WorkspaceID string `json:"workspaceId,omitzero"`
	GroupID     string `json:"groupId,omitzero"`
	// StrictScope leaves only what belongs to that context itself: nothing
	// of a wider scope, and no narrower context.
	StrictScope   bool  `json:"strictScope,omitzero"`
	RatePerMinute int   `json:"rateLimitPerMinute,omitzero"` // of each caller; 0: no limit
	ExpiresAtMs   int64 `json:"expiresAtMs,omitzero"`        // 0: never
	CreatedAtMs   int64 `json:"createdAtMs"`
}

// GrantAdd is the body of POST /aivault/grants.
type GrantAdd struct {
	Consumer      ConsumerRef `json:"consumer"`
	Capabilities  []string    `json:"capabilities,omitzero"` // absent: all
	WorkspaceID   string      `json:"workspaceId,omitzero"`
	GroupID       string      `json:"groupId,omitzero"`
	StrictScope   bool        `json:"strictScope,omitzero"`
	RatePerMinute *int        `json:"rateLimitPerMinute,omitzero"`
	ExpiresInMs   *int64      `json:"expiresInMs,omitzero"`
}

// GrantList is the answer of GET /aivault/grants and of each change to it.
type GrantList struct {
	Default string  `json:"default"` // GrantAllow or GrantDeny
	Grants  []Grant `json:"grants"`
}

// GrantDefault is the body of POST /aivault/grants/default.
type GrantDefault struct {
	Default string `json:"default"`
}

// Explanation is the answer of POST /aivault/explain, whose body is a Call.
// A caller who is no operator gets Allowed and Error alone.
type Explanation struct {
	Allowed bool     `json:"allowed"`
	NoVault bool     `json:"noVault,omitzero"` // there is no vault yet: judged by the registry alone
	Error   *Error   `json:"error,omitzero"`   // what the call would answer
	Planned *Planned `json:"planned,omitzero"`
	Set     string   `json:"set,omitzero"`     // the set that was named
	Binding string   `json:"binding,omitzero"` // that chose the credential
	Checks  []Check  `json:"checks,omitzero"`  // in order
	// Instead is the capability that would have admitted the request.
	Instead string `json:"instead,omitzero"`
	Command string `json:"command,omitzero"` // that would change the result
}

// Check is one step of a decision.
type Check struct {
	Name   string `json:"name"`
	Result string `json:"result"` // passed, failed, or not reached
	Detail string `json:"detail,omitzero"`
}

// Package policy decides whether a call may be made, and is the only place
// that decides it. It is pure: no disk, no network, no clock.
//
// A Request can be built by Canonicalise alone. It is what Decide judges and,
// byte for byte, what egress sends.
package policy

import "moldable.sh/aivault/internal/api"

// Request is a canonical request. It is immutable.
type Request struct{}

// Method is GET, HEAD, POST, PUT, PATCH or DELETE.
func (r *Request) Method() string { panic("contract") }

// Path is the escaped path as it goes on the wire.
func (r *Request) Path() string { panic("contract") }

// Query is the raw query as it goes on the wire, without '?'; HasQuery tells
// an empty one from none.
func (r *Request) Query() string { panic("contract") }

// Segments are the decoded path segments, without the leading empty one.
func (r *Request) Segments() []string { panic("contract") }

// Headers are the caller's headers and the defaults, names in canonical MIME
// form, in order.
func (r *Request) Headers() []api.Header { panic("contract") }

// Header is the first value of a header, "" when there is none.
func (r *Request) Header(name string) string { panic("contract") }

// Rules are what canonicalising depends on beside the request itself.
type Rules struct {
	// AuthHeader says whether a provider authenticates with a header, given
	// in lower case with '-' for '_'. May be nil.
	AuthHeader func(canonical string) bool
	// AuthQuery are the query parameters by which this provider can
	// authenticate.
	AuthQuery []string
	// CallerHeaders and CallerQuery are auth-class by name, yet the caller's.
	CallerHeaders []string
	CallerQuery   []string
	// Defaults are headers sent where the caller gives none; Fixed ones are
	// sent always, and refused from the caller unless equal.
	Defaults []api.Header
	Fixed    []api.Header
}

// Canonicalise builds the canonical form of what a caller asks. Whatever
// cannot be made canonical without doubt is refused: invalid_request for
// what is malformed, policy_violation for what is not the caller's to set.
func Canonicalise(method, target string, headers []api.Header, rules Rules) (*Request, error) {
	panic("contract")
}

// PathRule is one compiled path rule.
type PathRule struct{}

// ParsePathRule reads a rule: /p admits p and what lies below it by whole
// segments, =/p admits p alone, * is one segment or part of one.
func ParsePathRule(s string) (PathRule, error) { panic("contract") }

// String is the rule as written.
func (p PathRule) String() string { panic("contract") }

// Match says whether the rule admits a request's path.
func (p PathRule) Match(r *Request) bool { panic("contract") }

// Specificity orders rules that admit the same path: the greater the more
// specific.
func (p PathRule) Specificity() int { panic("contract") }

// Literal returns the path that the rule stands for when it has no '*'.
func (p PathRule) Literal() (string, bool) { panic("contract") }

// Capability is what Decide judges by: a registry or custom capability,
// compiled.
type Capability struct {
	ID       string
	Provider string
	Hosts    []string // name or name:port
	Methods  []string
	Paths    []PathRule
	Off      bool // refused to everyone
	// Default call; empty where there is none.
	DefaultMethod, DefaultPath string
}

// Compile checks a capability's parts and parses its rules. An empty list of
// hosts, methods or paths is an error: it never means "any".
func Compile(id, provider string, hosts, methods, paths []string) (*Capability, error) {
	panic("contract")
}

// ParseHost checks a host of the form name[:port]: lower-case A-labels or an
// IP literal, no trailing dot, no userinfo, no path; port 0 means the default.
func ParseHost(s string) (host string, port int, err error) { panic("contract") }

// Decision is an allowed call.
type Decision struct {
	Host string // name or name:port
	Rule string // the path rule that admitted it, as written: what the audit log records
}

// Decide says whether capability c admits r; if not, the error is
// policy_violation and says which part did not fit.
func Decide(c *Capability, r *Request) (Decision, error) { panic("contract") }

// ValidCapabilityID says whether s is provider/name.
func ValidCapabilityID(s string) bool { panic("contract") }

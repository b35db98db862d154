// Package policy decides whether a call may be made, and is the only place
// that decides it. It is pure: no disk, no network, no clock.
//
// A Request can be built by Canonicalise alone. It is what Decide judges and,
// byte for byte, what egress sends.
package policy

import (
	"slices"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/registry"
)

// Limits of a request's head. What is longer is refused: no upstream needs
// more, and servers disagree about what they do with it.
const (
	MaxTarget      = 8 << 10 // path and query, as given and as sent
	MaxHeaders     = 100
	MaxHeaderName  = 256
	MaxHeaderValue = 8 << 10
	MaxRule        = 1 << 10
)

// Request is a canonical request. It is immutable.
type Request struct {
	method   string
	path     string
	query    string
	hasQuery bool
	slashed  bool // a segment holds an escaped '/'
	segments []string
	headers  []api.Header
}

// Method is GET, HEAD, POST, PUT, PATCH or DELETE.
func (r *Request) Method() string { return r.method }

// Path is the escaped path as it goes on the wire.
func (r *Request) Path() string { return r.path }

// Query is the raw query as it goes on the wire, without '?'; HasQuery tells
// an empty one from none.
func (r *Request) Query() string { return r.query }

// HasQuery says whether the target carries a '?'.
func (r *Request) HasQuery() bool { return r.hasQuery }

// Target is path and query together, as they go on the wire.
func (r *Request) Target() string {
	if !r.hasQuery {
		return r.path
	}
	return r.path + "?" + r.query
}

// Segments are the decoded path segments, without the leading empty one. A
// path that ends in '/' has an empty last segment; a '/' in a segment is
// escaped on the wire. The slice is a copy.
func (r *Request) Segments() []string { return slices.Clone(r.segments) }

// Headers are the caller's headers and the defaults, names in canonical MIME
// form, in order. The slice is a copy.
func (r *Request) Headers() []api.Header { return slices.Clone(r.headers) }

// Header is the first value of a header, "" when there is none.
func (r *Request) Header(name string) string {
	for i := range r.headers {
		if SameHeader(r.headers[i].Name, name) {
			return r.headers[i].Value
		}
	}
	return ""
}

// Rules are what canonicalising depends on beside the request itself.
type Rules struct {
	// Slashes keeps an escaped '/' in a segment, where it is refused
	// otherwise. Only a rule that declares one admits such a segment.
	Slashes bool
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
	if !validMethod(method) {
		return nil, api.Errorf(api.InvalidRequest, "method %s is not one of %s", api.Quote(method), methodList)
	}
	r := &Request{method: method}
	if err := r.setTarget(target, &rules); err != nil {
		return nil, err
	}
	if err := r.setHeaders(headers, &rules); err != nil {
		return nil, err
	}
	return r, nil
}

// methodList is validMethod in words.
const methodList = "GET, HEAD, POST, PUT, PATCH, DELETE"

func validMethod(m string) bool {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE":
		return true
	}
	return false
}

// ValidCapabilityID says whether s is provider/name.
func ValidCapabilityID(s string) bool { return registry.ValidCapabilityID(s) }

package policy

import (
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/registry"
)

// Kinds of operations, as error texts name them.
const (
	kindGraphQL = "GraphQL"
	kindJSONRPC = "JSON-RPC"
)

// Types of GraphQL operations.
const (
	opQuery        = "query"
	opMutation     = "mutation"
	opSubscription = "subscription"
)

// An Operation is what a body asks for at an endpoint where neither path nor
// method tells: made by OperationRule.Read alone. It is immutable.
type Operation struct {
	kind string
	// names are the types of a GraphQL document's operations, each once, in
	// the order query, mutation, subscription; of JSON-RPC the method.
	names []string
}

// String names the operation: "GraphQL query", "JSON-RPC eth_call".
func (o *Operation) String() string { return o.kind + " " + strings.Join(o.names, " and ") }

// InWords names the operation within a sentence.
func (o *Operation) InWords() string {
	if o.kind == kindGraphQL {
		return "a " + o.String()
	}
	return "the JSON-RPC method " + strings.Join(o.names, " and ")
}

// OperationRule is what operations a capability admits, compiled. A nil rule
// admits every body, unread.
type OperationRule struct {
	kind  string
	names []string // JSON-RPC: one that ends in '*' is the beginning of longer names
}

// CompileOperation checks what the registry says of a capability's operation;
// nil for one that has none.
func CompileOperation(o *registry.Operation) (*OperationRule, error) {
	bad := func(why string) (*OperationRule, error) {
		return nil, api.Errorf(api.InvalidRequest, "operation %s", why)
	}
	if o == nil {
		return nil, nil
	}
	if (len(o.GraphQL) > 0) == (len(o.JSONRPC) > 0) {
		return bad("is neither GraphQL's nor JSON-RPC's, or both")
	}
	for _, name := range o.GraphQL {
		if name != opQuery && name != opMutation && name != opSubscription {
			return bad(api.Quote(name) + " is none of GraphQL's")
		}
	}
	for _, name := range o.JSONRPC {
		if !registry.ValidRPCMethod(strings.TrimSuffix(name, "*")) {
			return bad(api.Quote(name) + " is no name of a method")
		}
	}
	if len(o.GraphQL) > 0 {
		return &OperationRule{kindGraphQL, slices.Clone(o.GraphQL)}, nil
	}
	return &OperationRule{kindJSONRPC, slices.Clone(o.JSONRPC)}, nil
}

// String names what the rule admits, within a sentence: "a GraphQL query".
func (p *OperationRule) String() string {
	switch {
	case p.kind == kindGraphQL:
		return "a GraphQL " + strings.Join(p.names, " or ")
	case len(p.names) == 1:
		return "the JSON-RPC method " + p.names[0]
	}
	return "the JSON-RPC methods " + listNames(p.names)
}

// Names lists what the rule admits, each in words; none for a nil rule, which
// admits everything.
func (p *OperationRule) Names() []string {
	if p == nil {
		return nil
	}
	names := make([]string, len(p.names))
	for i, n := range p.names {
		names[i] = p.kind + " " + n
	}
	return names
}

// Reads says whether an operation that another rule read is what this one
// would read.
func (p *OperationRule) Reads(o *Operation) bool { return p != nil && o != nil && p.kind == o.kind }

// Admits says whether the rule admits an operation. Of a GraphQL document all
// operations count, whichever of them the call would have run.
func (p *OperationRule) Admits(o *Operation) bool {
	if p == nil {
		return true
	}
	return p.Reads(o) && len(o.names) > 0 && !slices.ContainsFunc(o.names, func(name string) bool { return !p.has(name) })
}

func (p *OperationRule) has(name string) bool {
	return slices.ContainsFunc(p.names, func(n string) bool {
		if start, ok := strings.CutSuffix(n, "*"); ok && p.kind == kindJSONRPC {
			return len(name) > len(start) && strings.HasPrefix(name, start)
		}
		return n == name
	})
}

// Meets says whether some body is admitted by both rules.
func (p *OperationRule) Meets(q *OperationRule) bool {
	if p == nil || q == nil {
		return true
	}
	return p.kind == q.kind && slices.ContainsFunc(p.names, func(a string) bool {
		start, open := strings.CutSuffix(a, "*")
		return slices.ContainsFunc(q.names, func(b string) bool {
			other, too := strings.CutSuffix(b, "*")
			if open && too {
				return strings.HasPrefix(start, other) || strings.HasPrefix(other, start)
			}
			return q.has(a) || p.has(b)
		})
	})
}

// untold says why a request's operation cannot be told: policy_violation.
func (p *OperationRule) untold(format string, args ...any) *api.Error {
	return api.Errorf(api.PolicyViolation, "which %s operation this call is cannot be told: "+format, append([]any{p.kind}, args...)...)
}

// CheckHead refuses what would let a server find the operation elsewhere than
// in a body of JSON: a query, another type or coding of the body. It is Read's
// first half, which needs no body.
func (p *OperationRule) CheckHead(r *Request) error {
	if r.hasQuery {
		return p.untold("it has a query string")
	}
	types := 0
	for i := range r.headers {
		name := foldName(r.headers[i].Name)
		switch {
		case name == "content-type":
			if types++; !plainJSON(r.headers[i].Value) {
				return p.untold("its Content-Type is not application/json in UTF-8")
			}
		case strings.HasPrefix(name, "content-"):
			return p.untold("it has the header %s, which says more of its body", plain(r.headers[i].Name))
		}
	}
	if types != 1 {
		return p.untold("it has no Content-Type that says it is JSON").
			WithHint("give the header Content-Type: application/json")
	}
	return nil
}

// plainJSON says whether a Content-Type is application/json, with the charset
// UTF-8 or none: what no server reads in a second way.
func plainJSON(contentType string) bool {
	kind, param, has := strings.Cut(strings.ToLower(contentType), ";")
	if strings.Trim(kind, " \t") != "application/json" {
		return false
	}
	param = strings.Trim(param, " \t")
	return !has || param == "charset=utf-8" || param == `charset="utf-8"`
}

// Read tells the operation of a request with this body, all of it:
// policy_violation where it cannot be told, because the body is no strict
// JSON, is more than one call, or could be read in two ways.
func (p *OperationRule) Read(r *Request, body []byte) (*Operation, error) {
	if err := p.CheckHead(r); err != nil {
		return nil, err
	}
	if len(body) > MaxInspected {
		return nil, p.untold("its body is longer than %d bytes", MaxInspected)
	}
	if p.kind == kindGraphQL {
		return p.readGraphQL(body)
	}
	return p.readJSONRPC(body)
}

// Refuse is the violation of a call that asks for an operation which the
// capability does not admit.
func (p *OperationRule) Refuse(capability string, o *Operation) error {
	return api.Errorf(api.PolicyViolation, "%s takes %s, not %s", capability, p, o.InWords()).
		WithHint("aivault capability describe %s", capability)
}

// jsonError is what strictjson found, without the package that found it.
func (p *OperationRule) jsonError(err error) error {
	return p.untold("in its body %s", err.Error())
}

package policy

import (
	"io"

	"moldable.sh/aivault/internal/api"
)

// MaxInspected bounds a request's body that a policy has to read whole, in
// bytes.
const MaxInspected = 16 << 20

// Limits are a capability's policy, compiled. A nil Limits limits nothing.
type Limits struct{ policy api.Policy }

// CompileLimits checks a policy and compiles it. An error is invalid_request
// and says which limit is wrong.
func CompileLimits(p api.Policy) (*Limits, error) { panic("contract") }

// Policy is what the Limits were compiled from.
func (l *Limits) Policy() api.Policy { panic("contract") }

// CheckQuery judges the request's query parameters: policy_violation.
func (l *Limits) CheckQuery(r *Request) error { panic("contract") }

// MaxRequest and MaxResponse are bounds in bytes, -1 for none.
func (l *Limits) MaxRequest() int64 { panic("contract") }

// MaxResponse bounds the body of an answer, in bytes; -1 is no bound.
func (l *Limits) MaxResponse() int64 { panic("contract") }

// InspectsBody says whether CheckBody has to see the request's body.
func (l *Limits) InspectsBody() bool { panic("contract") }

// CheckBody judges what the request's body says: policy_violation where a
// required field is another or missing, or the body is no strict JSON under a
// JSON content type.
func (l *Limits) CheckBody(r *Request, body []byte) error { panic("contract") }

// BlocksFields says whether answers have to go through Block.
func (l *Limits) BlocksFields() bool { panic("contract") }

// Block removes the blocked members from a JSON text while it streams. A text
// that is no JSON ends with a policy_violation instead of being let through;
// an empty one is empty.
func (l *Limits) Block(answer io.Reader) io.Reader { panic("contract") }

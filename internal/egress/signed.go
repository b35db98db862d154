package egress

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/policy"
)

// What a strategy signs is what egress sends: both ask the functions of this
// file, so that there is no second reading of a request.

// formType is the content type of a form.
const formType = "application/x-www-form-urlencoded"

// WirePath is the path of a request as it goes on the wire, with what auth and
// the login put before it.
func WirePath(to Destination, r *policy.Request, add Additions) (string, error) {
	t, err := wireTarget(to, r, add)
	return t.path, err
}

// WireQuery is the query of a request as it goes on the wire, without '?':
// the caller's, and behind it what auth adds, in its order. has tells an empty
// one from none. Errors are policy_violation: the caller has set a parameter
// of auth's.
func WireQuery(to Destination, r *policy.Request, add Additions) (query string, has bool, err error) {
	t, err := wireTarget(to, r, add)
	return t.query, t.hasQuery, err
}

// WireHost is the Host of requests to a destination: without the port that is
// the usual one.
func WireHost(to Destination) (string, error) {
	host, port, err := policy.ParseHost(to.Host)
	if err != nil {
		return "", err
	}
	return authority(host, port, usualPort(to)), nil
}

// WireBody is the body of a request as it goes on the wire: the caller's, and
// behind it the members of add.Form. Errors are policy_violation: the body is
// no form, or has a member that auth adds. The slice is body itself where
// there is nothing to add.
func WireBody(r *policy.Request, add Additions, body []byte) ([]byte, error) {
	if len(add.Form) == 0 {
		return body, nil
	}
	size := len(body)
	for i, f := range add.Form {
		if hasParam(string(body), f.Name) || hasField(add.Form[:i], f.Name) {
			return nil, api.Errorf(api.PolicyViolation, "form member %q is not the caller's to set", f.Name)
		}
		size += len(f.Name)*3 + f.Value.Len()*3 + 2
	}
	if err := checkForm(r, body); err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, size), body...)
	for _, f := range add.Form {
		if len(out) > 0 {
			out = append(out, '&')
		}
		out = append(out, url.QueryEscape(f.Name)+"="+url.QueryEscape(string(f.Value.Expose()))...)
	}
	return out, nil
}

// checkForm says whether a body is a form that members can be joined to.
func checkForm(r *policy.Request, body []byte) error {
	refused := func(why string) error {
		return api.Errorf(api.PolicyViolation, "this login adds a member to the request's form, and %s", why).
			WithHint("send a form: --form NAME=VALUE, or no body")
	}
	given := r.Header("Content-Type")
	kind, params, _ := strings.Cut(given, ";")
	charset := strings.TrimSpace(params)
	switch {
	case given == "" && len(body) > 0:
		return refused("its body has no content type")
	case given != "" && !strings.EqualFold(strings.TrimSpace(kind), formType):
		return refused("its content type is another")
	case charset != "" && !strings.EqualFold(charset, "charset=utf-8"):
		return refused("its content type has parameters")
	}
	// What stands behind a line break, a blank or a broken escape might be
	// read as something else than was joined.
	for i := range len(body) {
		if c := body[i]; c <= ' ' || c >= 0x7f {
			return refused("its body holds a character that no form has")
		}
	}
	if len(body) > 0 && body[len(body)-1] == '&' {
		return refused("its body ends with '&'")
	}
	if _, err := url.ParseQuery(string(body)); err != nil {
		return refused("its body cannot be read as one")
	}
	return nil
}

// joinForm makes the body that is sent, and names its type where the caller
// named none.
func joinForm(r *policy.Request, add Additions, body Body, header http.Header) (Body, error) {
	if len(add.Form) == 0 {
		return body, nil
	}
	if body.Whole == nil && (body.Reader != nil || body.Length > 0) {
		return body, api.Errorf(api.Internal, "a form that auth adds to is not in memory")
	}
	whole, err := WireBody(r, add, body.Whole)
	if err != nil {
		return body, err
	}
	if r.Header("Content-Type") == "" {
		header["Content-Type"] = []string{formType}
	}
	return Body{Reader: bytes.NewReader(whole), Length: int64(len(whole)), Whole: whole}, nil
}

package egress

import (
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/policy"
)

// target is path and query as they go on the wire.
type target struct {
	path     string
	query    string
	hasQuery bool
}

// url makes net/http send the target byte for byte, in HTTP/1.1 and 2 alike.
func (t target) url(scheme, authority string) *url.URL {
	return &url.URL{Scheme: scheme, Host: authority, Opaque: t.path, RawQuery: t.query, ForceQuery: t.hasQuery}
}

// wireTarget joins what auth and the login add to the request's target.
func wireTarget(to Destination, r *policy.Request, add Additions) (target, error) {
	t := target{path: r.Path(), query: r.Query(), hasQuery: r.HasQuery()}
	if prefix := add.PathPrefix.Expose(); len(prefix) > 0 || to.PathPrefix != "" {
		if len(prefix) > 0 && !validPrefix(string(prefix)) {
			return t, api.Errorf(api.AuthFailed, "the path prefix that authenticates cannot be part of a URL")
		}
		if to.PathPrefix != "" && !validPrefix(to.PathPrefix) {
			return t, api.Errorf(api.PolicyViolation, "the login's path prefix cannot be part of a URL")
		}
		t.path = string(prefix) + to.PathPrefix + t.path
	}
	if !strings.HasPrefix(t.path, "/") || strings.HasPrefix(t.path, "//") {
		return t, api.Errorf(api.PolicyViolation, "the path does not begin with a segment")
	}
	for i, f := range add.Query {
		if hasParam(t.query, f.Name) || hasField(add.Query[:i], f.Name) {
			return t, api.Errorf(api.PolicyViolation, "query parameter %q is not the caller's to set", f.Name)
		}
	}
	for _, f := range add.Query {
		if t.query != "" {
			t.query += "&"
		}
		t.query += url.QueryEscape(f.Name) + "=" + url.QueryEscape(string(f.Value.Expose()))
		t.hasQuery = true
	}
	return t, nil
}

// hasParam says whether a raw query holds a parameter, however it spells the
// name and whatever the server takes for a separator.
func hasParam(query, name string) bool {
	for query != "" {
		end := strings.IndexAny(query, "&;")
		pair := query
		if end >= 0 {
			pair, query = query[:end], query[end+1:]
		} else {
			query = ""
		}
		key, _, _ := strings.Cut(pair, "=")
		if decoded, err := url.QueryUnescape(key); err != nil || strings.EqualFold(decoded, name) {
			return true
		}
	}
	return false
}

func hasField(fields []Field, name string) bool {
	for _, f := range fields {
		if policy.SameHeader(f.Name, name) {
			return true
		}
	}
	return false
}

// validPrefix says whether s is one or more escaped path segments, each after
// its '/', none empty and none a dot segment.
func validPrefix(s string) bool {
	if s[0] != '/' {
		return false
	}
	for segment := range strings.SplitSeq(s[1:], "/") {
		decoded, err := url.PathUnescape(segment)
		if err != nil || decoded == "" || decoded == "." || decoded == ".." {
			return false
		}
		for i := range len(segment) {
			if c := segment[i]; !alphanumeric(c) && strings.IndexByte("-._~!$&'()*+,;=:@%", c) < 0 {
				return false
			}
		}
	}
	return true
}

// wireHeader joins what auth adds to the request's header, and completes it
// so that net/http adds nothing of its own but the framing.
func wireHeader(userAgent string, r *policy.Request, add Additions) (http.Header, error) {
	own := r.Headers()
	header := make(http.Header, len(own)+len(add.Headers)+2)
	values := make([]string, 0, len(own)+len(add.Headers)+2) // one allocation for all
	put := func(name, value string) {
		if first, ok := header[name]; ok {
			header[name] = append(first, value)
			return
		}
		values = append(values, value)
		header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	for i := range own {
		put(own[i].Name, own[i].Value)
	}
	for i, f := range add.Headers {
		for j := range own {
			if policy.SameHeader(own[j].Name, f.Name) {
				return nil, api.Errorf(api.PolicyViolation, "header %q is not the caller's to set", f.Name)
			}
		}
		if hasField(add.Headers[:i], f.Name) {
			return nil, api.Errorf(api.PolicyViolation, "header %q is set twice by the credential", f.Name)
		}
		if !validName(f.Name) || framing(f.Name) {
			return nil, api.Errorf(api.AuthFailed, "header %q is none that a credential can set", f.Name)
		}
		value := f.Value.Expose()
		if !validValue(value) {
			return nil, api.Errorf(api.AuthFailed, "the value for header %q holds a character that no header can carry", f.Name)
		}
		put(textproto.CanonicalMIMEHeaderKey(f.Name), string(value))
	}
	put("Accept-Encoding", "identity") // what cannot be read cannot be scrubbed
	if _, ok := header["User-Agent"]; !ok {
		if userAgent != "" {
			put("User-Agent", userAgent)
		} else {
			header["User-Agent"] = nil // keeps net/http from sending its own
		}
	}
	return header, nil
}

// framing says whether a header is about the message or the connection, and
// so egress's alone.
func framing(name string) bool {
	for _, f := range [...]string{
		"host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect",
		"keep-alive", "proxy-connection", "accept-encoding",
	} {
		if policy.SameHeader(name, f) {
			return true
		}
	}
	return false
}

func validName(name string) bool {
	for i := range len(name) {
		if c := name[i]; !alphanumeric(c) && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return name != ""
}

// validValue says whether a value reaches the wire as it is: without control
// characters, and without the blanks at its ends that net/http would cut off.
func validValue(v []byte) bool {
	for _, c := range v {
		if c < 0x20 && c != '\t' || c == 0x7f {
			return false
		}
	}
	blank := func(c byte) bool { return c == ' ' || c == '\t' }
	return len(v) == 0 || !blank(v[0]) && !blank(v[len(v)-1])
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

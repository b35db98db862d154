package policy

import (
	"net/textproto"
	"strings"

	"moldable.sh/aivault/internal/api"
)

// setHeaders checks the caller's headers and joins the defaults.
func (r *Request) setHeaders(headers []api.Header, rules *Rules) error {
	if len(headers) > MaxHeaders {
		return api.Errorf(api.InvalidRequest, "more than %d headers", MaxHeaders)
	}
	out := make([]api.Header, 0, len(headers)+len(rules.Defaults)+len(rules.Fixed))
	for i := range headers {
		h, send, err := canonicalHeader(headers[i], rules)
		if err != nil {
			return err
		}
		if !send {
			continue
		}
		for j := range out {
			if SameHeader(out[j].Name, h.Name) {
				if h.Name == "Content-Type" {
					return api.Errorf(api.InvalidRequest, "header Content-Type is given twice")
				}
				if out[j].Name != h.Name {
					return api.Errorf(api.InvalidRequest, "headers %s and %s differ in '-' and '_' alone", out[j].Name, h.Name)
				}
			}
		}
		out = append(out, h)
	}
	given := len(out)
	for _, d := range rules.Defaults {
		if !hasHeader(out[:given], d.Name) && !hasHeader(rules.Fixed, d.Name) {
			out = append(out, canonicalName(d))
		}
	}
	for _, f := range rules.Fixed {
		out = append(out, canonicalName(f))
	}
	r.headers = out
	return nil
}

// canonicalHeader judges one header of the caller's. A fixed header with its
// fixed value is let through and not sent: the fixed one is.
func canonicalHeader(h api.Header, rules *Rules) (_ api.Header, send bool, err error) {
	if err := checkHeaderName(h.Name); err != nil {
		return h, false, err
	}
	h.Value = strings.Trim(h.Value, " \t")
	if len(h.Value) > MaxHeaderValue {
		return h, false, api.Errorf(api.InvalidRequest, "header %s is longer than %d bytes", api.Quote(h.Name), MaxHeaderValue)
	}
	for i := range len(h.Value) {
		if c := h.Value[i]; c < 0x20 && c != '\t' || c >= 0x7f {
			return h, false, api.Errorf(api.InvalidRequest, "header %s holds a control character or one that is not ASCII", api.Quote(h.Name))
		}
	}
	name := foldName(h.Name)
	if transportHeader(name) {
		return h, false, api.Errorf(api.PolicyViolation, "header %s is not the caller's to set: it steers the connection, not the request", api.Quote(h.Name))
	}
	if partHeader(name) {
		return h, false, api.Errorf(api.PolicyViolation, "header %s asks for a part of an answer, in which a secret could not be recognised", api.Quote(h.Name))
	}
	if name == "accept" && !SameAsASCII(h.Value) || name == "accept-charset" && !acceptedCharsets(h.Value) {
		return h, false, api.Errorf(api.PolicyViolation, "header %s asks for a charset in which a secret could not be recognised", api.Quote(h.Name)).
			WithHint("ask for UTF-8")
	}
	for i := range rules.Fixed {
		if SameHeader(rules.Fixed[i].Name, name) {
			if rules.Fixed[i].Value == h.Value && !strings.Contains(h.Name, "_") {
				return h, false, nil
			}
			return h, false, api.Errorf(api.PolicyViolation, "header %s is fixed by the provider's entry", api.Quote(h.Name))
		}
	}
	callers := listed(rules.CallerHeaders, h.Name)
	if !callers && (authClass(name) || rules.AuthHeader != nil && rules.AuthHeader(name)) {
		return h, false, api.Errorf(api.PolicyViolation, "header %s is not the caller's to set: aivault adds what authenticates", api.Quote(h.Name))
	}
	if strings.Contains(h.Name, "_") && !callers && !sameNamed(rules.Defaults, h.Name) {
		// Servers of the CGI kind cannot tell it from its twin with '-'.
		return h, false, api.Errorf(api.PolicyViolation, "header %s holds a '_', which some servers read as '-'", api.Quote(h.Name))
	}
	return canonicalName(h), true, nil
}

func canonicalName(h api.Header) api.Header {
	h.Name = textproto.CanonicalMIMEHeaderKey(h.Name)
	return h
}

// tokenByte says whether c may stand in a field name (RFC 9110 §5.6.2).
func tokenByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c < 0x80 && strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

func checkHeaderName(name string) error {
	if name == "" || len(name) > MaxHeaderName {
		return api.Errorf(api.InvalidRequest, "name of a header is empty or longer than %d bytes", MaxHeaderName)
	}
	for i := range len(name) {
		if !tokenByte(name[i]) {
			return api.Errorf(api.InvalidRequest, "%s is no name of a header", api.Quote(name))
		}
	}
	return nil
}

// foldName is the form in which names are compared: lower case, '-' for '_'.
func foldName(name string) string {
	for i := range len(name) {
		if c := name[i]; 'A' <= c && c <= 'Z' || c == '_' {
			b := []byte(name)
			for ; i < len(b); i++ {
				b[i] = foldByte(b[i])
			}
			return string(b)
		}
	}
	return name
}

func foldByte(c byte) byte {
	switch {
	case 'A' <= c && c <= 'Z':
		return c + 'a' - 'A'
	case c == '_':
		return '-'
	}
	return c
}

// SameHeader compares names as the most careless server would: without case, and
// with '_' read as '-'.
func SameHeader(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if foldByte(a[i]) != foldByte(b[i]) {
			return false
		}
	}
	return true
}

func hasHeader(hs []api.Header, name string) bool {
	for i := range hs {
		if SameHeader(hs[i].Name, name) {
			return true
		}
	}
	return false
}

// sameNamed says whether one of hs has this very name, case aside.
func sameNamed(hs []api.Header, name string) bool {
	for i := range hs {
		if strings.EqualFold(hs[i].Name, name) {
			return true
		}
	}
	return false
}

// listed compares without case, but keeps '-' and '_' apart: the entry names
// one header, not its twin.
func listed(names []string, name string) bool {
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// transportHeader says whether a header (folded) is about the connection, the
// framing, the route or the method, or is one of aivault's own.
func transportHeader(name string) bool {
	switch name {
	case "connection", "keep-alive", "te", "trailer", "trailers", "transfer-encoding", "upgrade",
		"content-length", "expect", "host", "http2-settings", "max-forwards", "alt-used",
		"accept-encoding", // egress asks for what it can scrub
		"forwarded", "x-forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip",
		"client-ip", "x-originating-ip", "cf-connecting-ip", "fastly-client-ip", "remote-addr", "remote-user", "cdn-loop",
		"x-host", "x-method", "x-method-override", "proxy":
		return true
	}
	for _, p := range [...]string{
		"proxy-", "x-proxy", "x-forwarded-", "x-original-", "x-rewrite-", "x-override-", "x-http-", "x-envoy-", "x-remote-",
		"sec-websocket-", "aivault-",
	} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// authClass says whether a header's name (folded) is of the kind that
// authenticates, whoever the provider is.
func authClass(name string) bool {
	switch name {
	case "content-type", "accept", "user-agent": // nearly all there are
		return false
	}
	for _, w := range [...]string{"auth", "token", "secret", "api-key", "apikey", "session", "signature", "credential", "cookie"} {
		if strings.Contains(name, w) {
			return true
		}
	}
	return false
}

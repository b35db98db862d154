package oauth

import (
	"bytes"
	"mime"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/strictjson"
)

// Bounds of what an endpoint may answer.
const (
	maxAnswer   = 1 << 20
	maxValue    = 16 << 10 // of one token
	maxScopes   = 128
	maxScope    = 256
	maxLifetime = 10 * 365 * 24 * time.Hour
)

// An answer is what an endpoint said, whole.
type answer struct {
	host    string
	status  int
	kind    string                               // media type
	body    []byte                               // wiped once it is read
	askedAt time.Time                            // right before the request was sent: a lifetime counts from then
	explain func(code string, status int) string // the kind's; may be nil
}

// members are the members of an answer that is an object.
type members map[string]jsontext.Value

func (m members) wipe() {
	for _, raw := range m {
		clear(raw)
	}
}

// parse reads an answer's members: of a JSON object, or of a form where the
// content type says so. Those of a form are all strings.
func (a *answer) parse() (members, bool) {
	if a.kind == "application/x-www-form-urlencoded" || a.kind == "text/plain" && !bytes.HasPrefix(bytes.TrimLeft(a.body, " \t\r\n"), []byte("{")) {
		return parseForm(a.body)
	}
	var m members
	if err := strictjson.Unmarshal(a.body, &m); err != nil {
		m.wipe()
		return nil, false
	}
	return m, true
}

func parseForm(body []byte) (members, bool) {
	m := members{}
	for pair := range bytes.SplitSeq(bytes.TrimSpace(body), []byte("&")) {
		name, value, ok := bytes.Cut(pair, []byte("="))
		key, err := url.QueryUnescape(string(name))
		if !ok || err != nil {
			m.wipe()
			return nil, false
		}
		text, err := url.QueryUnescape(string(value))
		if _, twice := m[key]; twice || err != nil {
			m.wipe()
			return nil, false
		}
		m[key], _ = jsontext.AppendQuote(nil, text)
	}
	return m, len(m) > 0
}

// text is a member that is a string; "" for any other.
func (m members) text(name string) []byte { return unquote(m[name]) }

func unquote(raw jsontext.Value) []byte {
	if len(raw) == 0 || raw.Kind() != '"' {
		return nil
	}
	out, err := jsontext.AppendUnquote(make([]byte, 0, len(raw)), raw)
	if err != nil {
		clear(out)
		return nil
	}
	return out
}

// at finds a string: by a member's name, or by a JSON pointer (RFC 6901).
func (m members) at(place string) []byte {
	rest, deep := strings.CutPrefix(place, "/")
	if !deep {
		return m.text(place)
	}
	name, more, deeper := strings.Cut(rest, "/")
	raw := m[strings.NewReplacer("~1", "/", "~0", "~").Replace(name)]
	if !deeper {
		return unquote(raw)
	}
	var inner members
	defer func() { inner.wipe() }()
	if len(raw) == 0 || raw.Kind() != '{' || strictjson.Unmarshal(raw, &inner) != nil {
		return nil
	}
	return inner.at("/" + more)
}

// yields are what the token answer gives to the strategy's headers.
func yields(w *Want) []string {
	if o := w.Spec.OAuth2; o != nil && len(o.Yields) > 0 {
		return o.Yields
	}
	return []string{"access_token"}
}

// readToken takes an answer of RFC 6749, section 5.1, apart: the access token
// stands at place.
//
// Of what is not needed to send the token nothing is held against the answer:
// it may have used up a refresh token, and what it brought is all there is.
func readToken(a *asking, answer *answer, place string) (*obtained, error) {
	m, ok := answer.parse()
	if !ok {
		return nil, answer.broken("is neither a JSON object nor a form")
	}
	defer m.wipe()
	if kind := strings.ToLower(string(m.text("token_type"))); kind == "mac" || kind == "dpop" {
		return nil, answer.broken("gives a token of a type that aivault cannot send")
	}
	got := &obtained{fields: map[string]secret.Value{}, endsAt: m.end(answer.askedAt), scopes: m.scopes()}
	access := m.at(place)
	if why := badToken(access); why != "" {
		clear(access)
		return nil, answer.broken("has an access token that " + why)
	}
	got.fields["access_token"] = secret.New(access)
	if refresh := m.text("refresh_token"); len(refresh) > 0 {
		if why := badToken(refresh); why != "" {
			clear(refresh)
			wipe(got.fields)
			return nil, answer.broken("has a refresh token that " + why)
		}
		got.fields["refresh_token"] = secret.New(refresh)
	}
	a.addYields(got, m)
	return got, nil
}

// addYields adds what else the spec, or the token so far, has: from the answer,
// or as it was, or from the secret.
func (a *asking) addYields(got *obtained, m members) {
	names := slices.Clone(yields(a.want))
	for name := range a.token {
		names = append(names, name)
	}
	for _, name := range names {
		if name == "refresh_token" || !got.fields[name].IsZero() {
			continue
		}
		if text := m.text(name); badToken(text) == "" {
			got.fields[name] = secret.New(text)
		} else if last := a.token[name]; !last.IsZero() {
			got.fields[name] = last.Clone()
		} else if own := a.have.values[name]; !own.IsZero() && slices.Contains(yields(a.want), name) {
			got.fields[name] = own.Clone()
		}
	}
}

// badToken says why a value cannot be sent as it is.
func badToken(v []byte) string {
	if len(v) == 0 {
		return "is missing"
	}
	if len(v) > maxValue {
		return "is longer than " + strconv.Itoa(maxValue) + " bytes"
	}
	for _, c := range v {
		if c < ' ' || c > '~' {
			return "holds more than printable ASCII"
		}
	}
	return ""
}

// end is when the token ends: expires_in as a number of seconds or as a string
// of digits. Anything else says nothing.
func (m members) end(from time.Time) time.Time {
	raw := m["expires_in"]
	text := string(raw)
	if raw.Kind() == '"' {
		text = string(m.text("expires_in"))
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || !(seconds > 0) || seconds > maxLifetime.Seconds() {
		return time.Time{}
	}
	return from.Add(time.Duration(seconds * float64(time.Second)))
}

// scopes are what was granted, as a string with blanks or commas, or as a
// list.
func (m members) scopes() []string {
	for _, name := range []string{"scope", "scopes"} {
		var list []string
		switch raw := m[name]; {
		case len(raw) == 0:
			continue
		case raw.Kind() == '"':
			list = strings.FieldsFunc(string(unquote(raw)), func(c rune) bool { return c == ' ' || c == ',' })
		case raw.Kind() == '[':
			if strictjson.Unmarshal(raw, &list) != nil {
				continue
			}
		}
		if len(list) == 0 || len(list) > maxScopes || slices.ContainsFunc(list, func(s string) bool { return len(s) > maxScope || badToken([]byte(s)) != "" }) {
			continue
		}
		return list
	}
	return nil
}

// gave says whether an answer may have given a token: of a success, that it
// holds one, in whatever form, or cannot be read to its end. A page for people
// holds none.
func (a *answer) gave() bool {
	if a.status < 200 || a.status > 299 || a.kind == "text/html" {
		return false
	}
	m, ok := a.parse()
	if !ok {
		return true
	}
	defer m.wipe()
	for _, name := range [...]string{"access_token", "refresh_token"} {
		if raw := m[name]; len(raw) > 0 && raw.Kind() != 'n' && string(raw) != `""` {
			return true
		}
	}
	return false
}

// failure is the error that an answer is, if it is one: by its status, or by
// an error code, which some providers send with status 200.
func (a *answer) failure(w *Want) error {
	code := ""
	if m, ok := a.parse(); ok {
		switch raw := m["error"]; {
		case len(raw) == 0 || raw.Kind() == 'n' || raw.Kind() == 'f':
		case raw.Kind() == '"':
			code = string(unquote(raw))
		default:
			code = "?"
		}
		m.wipe()
	}
	if a.status >= 200 && a.status <= 299 && code == "" {
		return nil
	}
	if a.status >= 300 && a.status <= 399 {
		return api.Errorf(api.OAuthRefreshFailed, "%s gave no token: it answered with a redirect (status %d), and none is followed", a.host, a.status)
	}
	known := code
	if !validCode(code) {
		known = "an unknown error"
	}
	why := ""
	if a.explain != nil {
		if why = a.explain(known, a.status); why != "" {
			why = ": " + why
		}
	}
	e := api.Errorf(api.OAuthRefreshFailed, "%s gave no token: %s (status %d)%s", a.host, known, a.status, why)
	switch known {
	case "invalid_grant", "invalid_client", "unauthorized_client", "invalid_token", "access_denied", "invalid_code":
		return w.renew(e)
	}
	return e
}

// validCode says whether an error code can be repeated: it is made of the
// words that codes are made of. With any other word in it, it may be a part of
// the request: a password can be of small letters alone.
func validCode(s string) bool {
	for word := range strings.SplitSeq(s, "_") {
		if !codeWords[word] {
			return false
		}
	}
	return len(s) <= 64
}

// codeWords is a constant table: the words of RFC 6749 and its extensions, and
// of providers that have codes of their own.
var codeWords = func() map[string]bool {
	words := map[string]bool{}
	for _, w := range strings.Fields(`
		access account action active admin already allowed api app application assertion audience auth authentication authorization
		authorized bad banned be blocked callback cannot challenge client code configuration consent consumed contact count country created
		credential credentials customer deleted denied device disabled does domain down email enabled endpoint enforced error
		exceeded exist exists expired failed failure flow for forbidden found grant grants has id identifier in inactive incorrect
		installation insufficient integration interaction internal invalid ip is issuer jwt key license limit limited limits locked login
		logout malformed many match method mfa mismatch missing must nonce no not of offline org organization parameter parameters
		password payment pending permission permissions permitted policy private project proof provider quota rate reached
		redirect refresh region registration reject rejected request requests required requirements resource response restricted
		reused revoked role scope scopes secret selection server service session sig signature slow software state statement
		subject support supported suspended target team temporarily tenant timeout to token too transaction type unapproved unauthorized
		unavailable unexpected uninstalled unknown unmet unsupported unverified upgrade uri url usage used user username value 
		verification verifier verified version was workspace wrong`) {
		words[w] = true
	}
	return words
}()

func (a *answer) broken(why string) error {
	return api.Errorf(api.OAuthRefreshFailed, "%s gave no token that could be used: its answer (status %d) %s", a.host, a.status, why)
}

func mediaType(header string) string {
	kind, _, err := mime.ParseMediaType(header)
	if err != nil {
		return ""
	}
	return kind
}

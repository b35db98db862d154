package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"slices"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

// A kind is one way to get a token: which request asks for it, and what the
// answer gives. One file each.
type kind struct {
	name string
	// fits says whether the want is of this kind.
	fits func(w *Want) bool
	// endpoint is the URL that is asked.
	endpoint func(w *Want) string
	// same lists what of a want makes its token another one than that of a
	// want with the same endpoint: in an order that depends on nothing else.
	same func(w *Want) []string
	// again says that asking twice harms nothing, whatever came of the first
	// time: nothing that is sent is used up.
	again bool
	// build makes the request. It sends nothing.
	build func(ctx context.Context, a *asking) (*ask, error)
	// read takes an answer apart that is no error.
	read func(a *asking, answer *answer) (*obtained, error)
	// failed is the error that an answer is, if it is one; nil where that is
	// said as RFC 6749 has it.
	failed func(a *asking, answer *answer) error
	// own is the token that the secret itself holds, if that is good for now;
	// nil where the kind has none.
	own func(a *asking) (fields map[string]secret.Value, ok bool)
	// explain says what people usually find behind an error, by its code and
	// status; "" for nothing. nil where the kind has nothing to say.
	explain func(code string, status int) string
}

// kinds is the one table of them.
func kinds() []kind {
	return []kind{refreshToken(), clientGrant("client_credentials"), clientGrant("account_credentials"), authorizationCode(), jwtBearer(), githubApp(), tokenExchange(), assumeRole()}
}

func kindOf(w *Want) (kind, error) {
	for _, k := range kinds() {
		if k.fits(w) {
			return k, nil
		}
	}
	return kind{}, api.Errorf(api.Internal, "oauth: %s has a login whose tokens this version cannot ask for", w.Provider)
}

// grant says whether a want is of an OAuth grant type.
func grant(name string) func(*Want) bool {
	return func(w *Want) bool {
		return w.Spec.Type == "oauth2" && w.Spec.OAuth2 != nil && w.Spec.OAuth2.GrantType == name
	}
}

func tokenEndpoint(w *Want) string { return w.Spec.OAuth2.TokenEndpoint }

// An asking is one attempt to get a token, with what it may use.
type asking struct {
	source *Source
	want   *Want
	now    time.Time
	fields map[string]secret.Value // the credential's secrets
	have   *material               // what they hold
	token  map[string]secret.Value // of the token in the vault; nil when there is none
}

// wipe overwrites everything that was opened for the attempt.
func (a *asking) wipe() {
	wipe(a.fields)
	a.have.wipe()
	wipe(a.token)
}

// obtained is what an answer gave.
type obtained struct {
	fields map[string]secret.Value
	endsAt time.Time // zero: the answer did not say
	scopes []string  // nil: the answer did not say
	// rotated says that the answer brought another refresh token than the one
	// that was sent; kept, that one was sent and is still good.
	rotated, kept bool
}

// KeyOf names what a Want asks of whom with which secrets, "" when it asks for
// nothing: 64 hex digits of a SHA-256 over grant type, endpoint, parameters,
// options, and the ids of the secrets. The Want keeps it: what it is made of
// must not change afterwards.
func KeyOf(w *Want) string {
	if w.key == "" && NeedsToken(&w.Spec, &w.Options) {
		if k, err := kindOf(w); err == nil {
			w.key = digest(append([]string{"aivault token", k.name, k.endpoint(w)}, k.same(w)...))
		}
	}
	return w.key
}

// digest hashes a list of texts so that no two lists have the same bytes: each
// is preceded by its length.
func digest(list []string) string {
	h := sha256.New()
	for _, s := range list {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(s))))
		h.Write([]byte(s))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// pairs lists a map, sorted by name, behind its length.
func pairs(m map[string]string) []string {
	out := []string{string(binary.BigEndian.AppendUint32(nil, uint32(len(m))))}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k, m[k])
	}
	return out
}

// listed lists texts behind their number.
func listed(list []string) []string {
	return append([]string{string(binary.BigEndian.AppendUint32(nil, uint32(len(list))))}, list...)
}

// secretIDs are the ids of the want's secrets, whatever their fields are
// called.
func secretIDs(w *Want) []string {
	return slices.Compact(slices.Sorted(maps.Values(w.Secrets)))
}

// clientSame is what tells apart the tokens that a client gets for itself.
func clientSame(w *Want) []string {
	return slices.Concat(pairs(w.Spec.OAuth2.TokenParams), listed(scopesOf(w)), pairs(w.Secrets))
}

// scopesOf are the scopes to ask for: the credential's own, or the spec's.
func scopesOf(w *Want) []string {
	if len(w.Options.Scopes) > 0 {
		return w.Options.Scopes
	}
	return w.Spec.OAuth2.Scopes
}

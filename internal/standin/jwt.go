package standin

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	neturl "net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// A JWTAuthority gives tokens to whoever signs a JWT, as the descriptions of
// two services have it and none of their libraries: Google's token endpoint
// (POST /token) for its service accounts, and GitHub's (POST
// /app/installations/ID/access_tokens) for its apps. It is a handler for
// Start; every other path is an API that takes the tokens.
type JWTAuthority struct {
	// Endpoint is the aud that assertions must have: the endpoint as its
	// callers know it.
	Endpoint string
	Clock    func() time.Time // default time.Now
	// Accounts are by e-mail address, Apps by id.
	Accounts map[string]ServiceAccount
	Apps     map[string]GitHubApp
	Life     time.Duration // of tokens; default an hour

	mu    sync.Mutex
	asked int
	given []string          // every token
	good  map[string]bool   // those that are
	last  map[string]any    // the claims of the last JWT that was good
	why   string            // the last request was refused for
	body  map[string]any    // of the last request to GitHub
	head  map[string]string // of the last JWT that was good
}

// ServiceAccount is a Google account that no person has.
type ServiceAccount struct {
	Keys     map[string]*rsa.PublicKey // by id
	Subjects []string                  // on whose behalf it may act
	Scopes   []string                  // that it may have
}

// GitHubApp is an app with its installations.
type GitHubApp struct {
	Keys          []*rsa.PublicKey
	Installations map[string]Installation // by id
}

// Installation is what an app may do where it was installed.
type Installation struct {
	Repositories []string
	Permissions  map[string]string
}

// JWTSeen is what a JWTAuthority has seen.
type JWTSeen struct {
	Asked  int
	Tokens []string       // all that were given
	Claims map[string]any // of the last JWT that was good
	Header map[string]string
	Body   map[string]any // of the last request for an installation's token
	Why    string         // the last one was refused, "" if it was not
}

// Seen tells what happened so far.
func (a *JWTAuthority) Seen() JWTSeen {
	a.mu.Lock()
	defer a.mu.Unlock()
	return JWTSeen{a.asked, slices.Clone(a.given), a.last, a.head, a.body, a.why}
}

// Expire ends every token that was given so far.
func (a *JWTAuthority) Expire() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.good)
}

var installationPath = regexp.MustCompile(`^/app/installations/([0-9]+)/access_tokens$`)

// ServeHTTP implements http.Handler.
func (a *JWTAuthority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	installation := installationPath.FindStringSubmatch(r.URL.Path)
	switch {
	case r.URL.Path == "/token" && r.Method == http.MethodPost:
		a.asked++
		a.google(w, r, body)
	case installation != nil && r.Method == http.MethodPost:
		a.asked++
		a.github(w, r, installation[1], body)
	default:
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !a.good[token] {
			answer(w, http.StatusUnauthorized, map[string]string{"message": "Bad credentials"})
			return
		}
		answer(w, http.StatusOK, map[string]string{"path": r.URL.Path, "sent": r.Header.Get("Authorization")})
	}
}

func (a *JWTAuthority) google(w http.ResponseWriter, r *http.Request, body []byte) {
	refuse := func(code, why string) {
		a.why = why
		answer(w, http.StatusBadRequest, map[string]string{"error": code, "error_description": why})
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	form, err := neturl.ParseQuery(string(body))
	if kind != "application/x-www-form-urlencoded" || err != nil || len(form["assertion"]) != 1 || len(form) != 2 {
		refuse("invalid_request", "not a form with a grant type and one assertion")
		return
	}
	if form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		refuse("unsupported_grant_type", "another grant type")
		return
	}
	token, err := splitJWT(form.Get("assertion"))
	if err != nil {
		refuse("invalid_grant", err.Error())
		return
	}
	account, known := a.Accounts[token.text("iss")]
	key := account.Keys[token.header["kid"]]
	now := a.now()
	issued, ends := token.time("iat"), token.time("exp")
	subject, _ := token.claims["sub"].(string)
	scopes := strings.Fields(token.text("scope"))
	switch {
	case !known || key == nil:
		refuse("invalid_grant", "Invalid grant: account not found, or not its key")
	case !token.signedBy(key):
		refuse("invalid_grant", "Invalid JWT Signature.")
	case token.claims["aud"] != a.Endpoint:
		refuse("invalid_grant", "Invalid JWT: aud is another")
	case issued.After(now), !ends.After(now), ends.Sub(issued) > time.Hour, issued.IsZero(), ends.IsZero():
		refuse("invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe")
	case token.claims["sub"] != nil && !slices.Contains(account.Subjects, subject):
		refuse("unauthorized_client", "Client is unauthorized to retrieve access tokens using this method")
	case len(scopes) == 0 || slices.ContainsFunc(scopes, func(s string) bool { return !slices.Contains(account.Scopes, s) }):
		refuse("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
	default:
		a.take(token)
		answer(w, http.StatusOK, map[string]any{"access_token": a.give("ya29."), "expires_in": int(a.life().Seconds()) - 1, "token_type": "Bearer"})
	}
}

func (a *JWTAuthority) github(w http.ResponseWriter, r *http.Request, id string, body []byte) {
	refuse := func(status int, why string) {
		a.why = why
		answer(w, status, map[string]string{"message": why, "documentation_url": "https://docs.github.com/rest", "status": fmt.Sprint(status)})
	}
	if r.Header.Get("User-Agent") == "" {
		refuse(http.StatusForbidden, "Request forbidden by administrative rules: no User-Agent")
		return
	}
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	token, err := splitJWT(bearer)
	if !ok || err != nil {
		refuse(http.StatusUnauthorized, "A JSON web token could not be decoded")
		return
	}
	app, known := a.Apps[token.text("iss")]
	now := a.now()
	issued, ends := token.time("iat"), token.time("exp")
	installation, installed := app.Installations[id]
	switch {
	case !known || !slices.ContainsFunc(app.Keys, token.signedBy):
		refuse(http.StatusUnauthorized, "A JSON web token could not be decoded")
		return
	case issued.After(now) || issued.IsZero():
		refuse(http.StatusUnauthorized, "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued")
		return
	case !ends.After(now), ends.Sub(now) > 10*time.Minute:
		refuse(http.StatusUnauthorized, "'Expiration time' claim ('exp') is too far in the future, or past")
		return
	case !installed:
		refuse(http.StatusNotFound, "Not Found")
		return
	}
	var wanted map[string]any
	if len(body) > 0 && json.Unmarshal(body, &wanted) != nil {
		refuse(http.StatusBadRequest, "Problems parsing JSON")
		return
	}
	permissions := map[string]any{}
	for name, level := range installation.Permissions {
		permissions[name] = level
	}
	if asked, ok := wanted["permissions"].(map[string]any); ok {
		for name, level := range asked {
			if has := installation.Permissions[name]; level != has && (has != "write" || level != "read") {
				refuse(http.StatusUnprocessableEntity, "The permissions requested are not granted to this installation.")
				return
			}
		}
		permissions = asked
	}
	repositories, _ := wanted["repositories"].([]any)
	for _, name := range repositories {
		if text, _ := name.(string); !slices.Contains(installation.Repositories, text) {
			refuse(http.StatusUnprocessableEntity, "There is at least one repository that does not exist or is not accessible")
			return
		}
	}
	a.take(token)
	a.body = wanted
	answer(w, http.StatusCreated, map[string]any{
		"token": a.give("ghs_"), "expires_at": now.Add(a.life()).UTC().Format(time.RFC3339), "permissions": permissions, "repository_selection": "selected",
	})
}

func (a *JWTAuthority) now() time.Time {
	if a.Clock == nil {
		return time.Now()
	}
	return a.Clock()
}

func (a *JWTAuthority) life() time.Duration {
	if a.Life == 0 {
		return time.Hour
	}
	return a.Life
}

func (a *JWTAuthority) take(token *parsedJWT) {
	a.last, a.head, a.why = token.claims, token.header, ""
}

func (a *JWTAuthority) give(prefix string) string {
	token := prefix + rand.Text()
	if a.good == nil {
		a.good = map[string]bool{}
	}
	a.given, a.good[token] = append(a.given, token), true
	return token
}

// parsedJWT is a JWT whose signature nobody has looked at yet.
type parsedJWT struct {
	signing   string
	signature []byte
	header    map[string]string
	claims    map[string]any
}

// splitJWT takes a compact JWT of RS256 apart (RFC 7515, section 5.2).
func splitJWT(text string) (*parsedJWT, error) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil, fmt.Errorf("a JWT of %d parts", len(parts))
	}
	var raw [3][]byte
	for i, p := range parts {
		b, err := base64.RawURLEncoding.Strict().DecodeString(p)
		if err != nil {
			return nil, fmt.Errorf("part %d of the JWT is no base64url", i+1)
		}
		raw[i] = b
	}
	t := &parsedJWT{signing: parts[0] + "." + parts[1], signature: raw[2]}
	if json.Unmarshal(raw[0], &t.header) != nil || json.Unmarshal(raw[1], &t.claims) != nil {
		return nil, fmt.Errorf("the JWT holds no JSON")
	}
	if t.header["alg"] != "RS256" || t.header["typ"] != "JWT" {
		return nil, fmt.Errorf("a JWT of another kind than RS256")
	}
	return t, nil
}

func (t *parsedJWT) signedBy(key *rsa.PublicKey) bool {
	sum := sha256.Sum256([]byte(t.signing))
	return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], t.signature) == nil
}

func (t *parsedJWT) text(name string) string {
	s, _ := t.claims[name].(string)
	return s
}

// time is a NumericDate; the zero time for what is none.
func (t *parsedJWT) time(name string) time.Time {
	n, ok := t.claims[name].(float64)
	if !ok {
		return time.Time{}
	}
	return time.Unix(int64(n), 0)
}

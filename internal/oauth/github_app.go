package oauth

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/strictjson"
)

// appLife is how long an app's JWT is good, from its iat on: GitHub takes at
// most ten minutes from its own now.
const appLife = 10 * time.Minute

// githubApp is the token of one installation of a GitHub App, which a JWT of
// the app asks for. The endpoint is that of all installations:
// https://api.github.com/app/installations.
func githubApp() kind {
	return kind{
		name:     api.GrantGitHubApp,
		fits:     grant(api.GrantGitHubApp),
		endpoint: tokenEndpoint,
		same: func(w *Want) []string {
			repositories := slices.Sorted(slices.Values(w.Options.Repositories))
			return slices.Concat(listed(repositories), pairs(w.Options.Permissions), pairs(w.Secrets))
		},
		again:   true,
		build:   buildInstallation,
		read:    readInstallation,
		explain: explainInstallation,
	}
}

func buildInstallation(_ context.Context, a *asking) (*ask, error) {
	for _, name := range [...]string{"app_id", "installation_id"} {
		v := a.have.values[name]
		switch {
		case v.IsZero():
			return nil, a.lacks(name)
		case !validAppPart(name, v.Expose()):
			return nil, a.want.renew(api.Errorf(api.AuthFailed, "the %s of %s is none that GitHub gives", name, a.want.Provider))
		}
	}
	issued := a.now.Add(-clockSkew)
	token, err := a.signed(jwt.MapClaims{
		"iss": string(a.have.values["app_id"].Expose()), "iat": issued.Unix(), "exp": issued.Add(appLife).Unix(),
	}, "")
	if err != nil {
		return nil, err
	}
	defer clear(token)
	return &ask{
		method:   "POST",
		endpoint: a.want.Spec.OAuth2.TokenEndpoint + "/" + string(a.have.values["installation_id"].Expose()) + "/access_tokens",
		headers: []api.Header{
			{Name: "Accept", Value: "application/vnd.github+json"}, {Name: "Content-Type", Value: "application/json"},
			{Name: "User-Agent", Value: "aivault"}, {Name: "X-Github-Api-Version", Value: "2022-11-28"},
		},
		add:  egress.Additions{Headers: []egress.Field{{Name: "Authorization", Value: secret.New(append([]byte("Bearer "), token...))}}},
		body: installationBody(&a.want.Options),
	}, nil
}

// validAppPart says whether a value is an app's id (a number, or a client id)
// or an installation's (a number, which becomes part of a path).
func validAppPart(name string, v []byte) bool {
	for _, c := range v {
		digit := '0' <= c && c <= '9'
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '.'
		if !digit && (name == "installation_id" || !letter) {
			return false
		}
	}
	return len(v) > 0 && len(v) <= 64
}

// installationBody narrows what the token is for. What is not named is all
// that the installation has.
func installationBody(o *api.TokenOptions) []byte {
	out := []byte{'{'}
	if len(o.Repositories) > 0 {
		out = append(out, `"repositories":[`...)
		for i, r := range o.Repositories {
			if i > 0 {
				out = append(out, ',')
			}
			out, _ = jsontext.AppendQuote(out, r)
		}
		out = append(out, ']')
	}
	if len(o.Permissions) > 0 {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, `"permissions":{`...)
		for i, name := range slices.Sorted(maps.Keys(o.Permissions)) {
			if i > 0 {
				out = append(out, ',')
			}
			out, _ = jsontext.AppendQuote(out, name)
			out, _ = jsontext.AppendQuote(append(out, ':'), o.Permissions[name])
		}
		out = append(out, '}')
	}
	return append(out, '}')
}

// readInstallation reads {"token", "expires_at", "permissions"}.
func readInstallation(a *asking, answer *answer) (*obtained, error) {
	m, ok := answer.parse()
	if !ok {
		return nil, answer.broken("is no JSON object")
	}
	defer m.wipe()
	token := m.text("token")
	if why := badToken(token); why != "" {
		clear(token)
		return nil, answer.broken("has a token that " + why)
	}
	got := &obtained{fields: map[string]secret.Value{"access_token": secret.New(token)}}
	if ends, err := time.Parse(time.RFC3339, string(m.text("expires_at"))); err == nil && ends.After(answer.askedAt) && ends.Sub(answer.askedAt) < maxLifetime {
		got.endsAt = ends
	}
	var granted map[string]string
	if raw := m["permissions"]; len(raw) > 0 && strictjson.Unmarshal(bytes.Clone(raw), &granted) == nil {
		for _, name := range slices.Sorted(maps.Keys(granted)) {
			if scope := name + ":" + granted[name]; badToken([]byte(scope)) == "" && len(scope) <= maxScope && len(got.scopes) < maxScopes {
				got.scopes = append(got.scopes, scope)
			}
		}
	}
	return got, nil
}

// explainInstallation says what people usually find behind a status.
func explainInstallation(_ string, status int) string {
	switch status {
	case 401:
		return "the private key is not one of the app's, the app's id is another's, or this machine's clock is wrong"
	case 403:
		return "the installation is suspended"
	case 404:
		return "the app has no such installation"
	case 422:
		return "the installation does not have these repositories or permissions"
	}
	return ""
}

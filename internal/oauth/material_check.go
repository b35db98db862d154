package oauth

import (
	"maps"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

// CheckMaterial says whether those fields of a spec that are given hold what
// its grant wants, by their shape: so that what could only fail at each call is
// found when it is stored, one by one. The error (auth_failed) names what a
// value is instead, and repeats nothing of it.
func CheckMaterial(spec api.AuthSpec, fields map[string]secret.Value) error {
	if spec.Type != "oauth2" || spec.OAuth2 == nil {
		return nil
	}
	c := &materialCheck{spec: spec.OAuth2}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		c.about = name
		if err := c.field(name, fields[name]); err != nil {
			return err
		}
	}
	return nil
}

type materialCheck struct {
	spec  *api.OAuth2Spec
	about string // the field that is looked at
}

// wants are the members that a grant needs, and what has them, in words.
func (c *materialCheck) wants() (names []string, words shape) {
	switch c.spec.GrantType {
	case "refresh_token":
		return []string{"client_id", "refresh_token"}, shapeRefresh
	case "authorization_code":
		return []string{"access_token"}, "an access token"
	case "client_credentials", "account_credentials":
		return []string{"client_id", "client_secret"}, "a client's id and secret"
	case api.GrantJWTBearer:
		return []string{"private_key"}, shapeAccount
	case api.GrantGitHubApp:
		return []string{"app_id", "installation_id", "private_key"}, shapeGitHubApp
	}
	return nil, shapeNone
}

// plain says whether a field holds one value and no JSON: it bears the value's
// own name, or a parameter of the request is made of it.
func (c *materialCheck) plain(field string) bool {
	switch field {
	case "client_id", "client_secret", "refresh_token", "access_token", "private_key", "app_id", "installation_id", "client_email", "private_key_id":
		return true
	}
	for _, t := range c.spec.TokenParams {
		if strings.Contains(t, "{{"+field+"}}") {
			return true
		}
	}
	return slices.ContainsFunc(c.spec.Headers, func(h api.AuthField) bool { return strings.Contains(h.ValueTemplate, "{{"+field+"}}") })
}

func (c *materialCheck) field(name string, v secret.Value) error {
	if c.plain(name) {
		return c.value(name, v)
	}
	names, words := c.wants()
	is := shapeOf(v.Expose())
	m, err := materialOf(map[string]secret.Value{name: v})
	if err != nil {
		return c.unfit("begins like JSON, and is not one object with each member once")
	}
	defer m.wipe()
	if m.plain[name] { // no JSON
		if is != shapeNone {
			return c.unfit("is %s, and %s is wanted", is, words)
		}
		return c.unfit("is no JSON, and %s is wanted", words)
	}
	for _, n := range names {
		if n == "refresh_token" && !m.values["access_token"].IsZero() && !m.endsAt.IsZero() {
			continue // good until it ends, as its owner knows
		}
		if m.values[n].IsZero() && !c.elsewhere(n) {
			if is != shapeNone && is != words {
				return c.unfit("is %s, and %s is wanted", is, words)
			}
			return c.unfit("has no %s, and %s is wanted", n, words)
		}
	}
	if c.spec.GrantType == api.GrantJWTBearer && m.values["client_email"].IsZero() && m.values["client_id"].IsZero() && !c.elsewhere("client_email") && !c.elsewhere("client_id") {
		return c.unfit("has no client_email, and %s is wanted", words)
	}
	return c.members(m.values)
}

// elsewhere says whether a member need not be in the JSON: it is a field of
// its own, or the same for everyone.
func (c *materialCheck) elsewhere(name string) bool {
	_, fixed := c.spec.TokenParams[name]
	return fixed || slices.Contains(c.spec.Fields, name) || name == "client_id" && c.spec.ClientAuth == "none"
}

// value looks at a field that is what its name says.
func (c *materialCheck) value(name string, v secret.Value) error {
	if is := shapeOf(v.Expose()); is != shapeNone && (name != "private_key" || is != shapeKey) {
		return c.unfit("is %s, and only the %s belongs there", is, name)
	}
	return c.members(map[string]secret.Value{name: v})
}

// members looks at what the grant sends, or signs with.
func (c *materialCheck) members(values map[string]secret.Value) error {
	for _, name := range [...]string{"refresh_token", "access_token"} {
		if v := values[name]; !v.IsZero() {
			if why := badToken(v.Expose()); why != "" {
				return c.unfit("has a %s that %s", name, why)
			}
		}
	}
	switch c.spec.GrantType {
	case api.GrantJWTBearer:
		if why := badAccount(values, c.spec.TokenEndpoint); why != "" {
			return c.unfit("%s", why)
		}
	case api.GrantGitHubApp:
		for _, name := range [...]string{"app_id", "installation_id"} {
			if v := values[name]; !v.IsZero() && !validAppPart(name, v.Expose()) {
				return c.unfit("is no %s: %s", name, map[string]string{"app_id": "that is a number, or a client id", "installation_id": "that is a number, the last part of the installation's address"}[name])
			}
		}
	default:
		return nil
	}
	if v := values["private_key"]; !v.IsZero() {
		if _, why := rsaKey(v.Expose()); why != "" {
			return c.unfit("has a private key that %s", why)
		}
	}
	return nil
}

// unfit makes the error, with what to do instead.
func (c *materialCheck) unfit(format string, args ...any) *api.Error {
	e := api.Errorf(api.AuthFailed, "it "+format, args...)
	switch c.spec.GrantType {
	case "refresh_token":
		return e.WithHint(`store {"client_id":…,"client_secret":…,"refresh_token":…}`)
	case "authorization_code":
		return e.WithHint(`store {"access_token":…}`)
	case api.GrantJWTBearer:
		return e.WithHint("store the JSON file that the provider gave for the account, as it is: --value-file FILE")
	case api.GrantGitHubApp:
		if c.about == "app_id" || c.about == "installation_id" {
			return e.WithHint("store that alone, which is no secret: --value NUMBER")
		}
		return e.WithHint("store the file that GitHub gave for the app's private key, as it is: --value-file FILE.pem")
	}
	return e
}

// badAccount says why members cannot be those of a service account that asks
// an endpoint, as far as they are there.
func badAccount(values map[string]secret.Value, endpoint string) string {
	if kind := string(values["type"].Expose()); kind != "" && kind != "service_account" {
		return "is of another type than service_account"
	}
	for _, name := range [...]string{"client_email", "private_key_id"} {
		if v := values[name]; !v.IsZero() && badToken(v.Expose()) != "" {
			return "has a " + name + " that cannot be sent"
		}
	}
	// Else whoever wrote the file would say where its signature goes.
	if v := values["token_uri"]; !v.IsZero() && !strings.Contains(endpoint, "{") && string(v.Expose()) != endpoint {
		return "names another token_uri than " + endpoint
	}
	return ""
}

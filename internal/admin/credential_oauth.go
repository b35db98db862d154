package admin

import (
	"net/url"
	"regexp"
	"slices"
	"strconv"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/oauth"
)

// checkEndpoints holds the token endpoints of a custom provider to the
// exceptions of its credential: what could not be asked at a call is refused
// now.
func checkEndpoints(r *api.CredentialCreate) error {
	for _, e := range endpointsOf(r.Auth) {
		// That it is a URL of host and path was checked with the auth.
		u, err := url.Parse(e)
		if err != nil || oauth.WithoutHostParams(e) != e {
			return api.Errorf(api.InvalidRequest, "the token endpoint %s holds a part in braces, and a provider of your own has nothing to fill it with", api.Quote(e))
		}
		if u.Scheme == "http" && !r.AllowHTTP {
			return api.Errorf(api.InvalidRequest, "the token endpoint %s is not https", api.Quote(e)).WithHint("in a private network: add --allow-http")
		}
		port, _ := strconv.Atoi(u.Port())
		switch {
		case u.Port() == "", port == 443 && u.Scheme == "https", port == 80 && u.Scheme == "http", slices.Contains(r.AllowPorts, port):
		default:
			return api.Errorf(api.InvalidRequest, "the token endpoint %s has a port that is not allowed", api.Quote(e)).WithHint("add --allow-port %d", port)
		}
		if err := checkOwnAddr(r, "the token endpoint "+api.Quote(e), u.Hostname(), u.Scheme == "http"); err != nil {
			return err
		}
	}
	return nil
}

func endpointsOf(spec *api.AuthSpec) []string {
	var list []string
	if o := spec.OAuth2; o != nil {
		list = append(list, o.TokenEndpoint, o.CodeEndpoint, o.AuthorizationEndpoint, o.DeviceEndpoint, o.RevocationEndpoint)
	}
	if x := spec.TokenExchange; x != nil {
		list = append(list, x.TokenEndpoint)
	}
	return slices.DeleteFunc(list, func(e string) bool { return e == "" })
}

// checkNarrowing holds what the tokens are for against the forms that their
// givers have: what they would refuse at every call is refused now.
func checkNarrowing(o *api.TokenOptions) error {
	repository, permission := regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`), regexp.MustCompile(`^[a-z_]{1,64}$`)
	for i, name := range o.Repositories {
		if !repository.MatchString(name) || slices.Contains(o.Repositories[:i], name) {
			return api.Errorf(api.InvalidRequest, "repository %s is none, or given twice: its name alone is wanted, without the owner", api.Quote(name)).
				WithHint("add --github-repository NAME")
		}
	}
	for name, level := range o.Permissions {
		if !permission.MatchString(name) || !slices.Contains([]string{"read", "write", "admin"}, level) {
			return api.Errorf(api.InvalidRequest, "the permission %s is none: it reads NAME=LEVEL, where the level is read, write or admin", api.Quote(name+"="+level)).
				WithHint("add --github-permission contents=read")
		}
	}
	return nil
}

package cli

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
)

// oauthFlags are the flags of --auth oauth2 and --auth token-exchange. The
// header that the token goes to has the flags of --auth header.
type oauthFlags struct {
	grant, endpoint, clientAuth, body, separator, field string
	params                                              []string
}

func (a *oauthFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.grant, "grant-type", "", "oauth2: how a token is had, by `GRANT`: "+words(grantNames()))
	f.StringVar(&a.endpoint, "token-endpoint", "", "oauth2, token-exchange: the `URL` that is asked for a token; github-app: that of all installations")
	f.StringVar(&a.clientAuth, "client-auth", "", "oauth2: where client id and secret go, `PLACE`: body, basic, or none for a client without a secret (default body)")
	f.StringVar(&a.body, "token-body", "", "oauth2, token-exchange: how the request for a token is written, `FORM`: form or json (default form; token-exchange: json)")
	f.StringArrayVar(&a.params, "token-param", nil, "oauth2, token-exchange: `NAME=TEMPLATE` in the request for a token; may be repeated")
	f.StringVar(&a.separator, "oauth-scope-separator", "", "oauth2: the `CHARACTER` between scopes (default a space)")
	f.StringVar(&a.field, "token-field", "", "token-exchange: where the answer has the token, a member's `NAME` or a JSON pointer (default access_token)")
	completeWords(cmd, "grant-type", grantNames()...)
	completeWords(cmd, "client-auth", "body", "basic", "none")
	completeWords(cmd, "token-body", "form", "json")
}

// grants are the grant types by their names on the command line.
func grants() map[string]string {
	return map[string]string{
		"refresh_token": "refresh_token", "client_credentials": "client_credentials", "account_credentials": "account_credentials",
		"authorization_code": "authorization_code", "jwt-bearer": api.GrantJWTBearer, "github-app": api.GrantGitHubApp,
	}
}

func grantNames() []string {
	return []string{"refresh_token", "client_credentials", "account_credentials", "authorization_code", "jwt-bearer", "github-app"}
}

// check says in the words of the command line what is wrong.
func (a *oauthFlags) check(kind string) error {
	if a.endpoint == "" {
		return api.Errorf(api.InvalidRequest, "--auth %s needs --token-endpoint", kind)
	}
	if kind == "oauth2" && !slices.Contains(grantNames(), a.grant) && a.grant != api.GrantJWTBearer {
		return api.Errorf(api.InvalidRequest, "--grant-type cannot be %q: it takes %s", a.grant, words(grantNames()))
	}
	for _, f := range []struct {
		flag, value string
		takes       []string
	}{
		{"client-auth", cmp.Or(a.clientAuth, "body"), []string{"body", "basic", "none"}},
		{"token-body", cmp.Or(a.body, "form"), []string{"form", "json"}},
	} {
		if !slices.Contains(f.takes, f.value) {
			return api.Errorf(api.InvalidRequest, "--%s cannot be %q: it takes %s", f.flag, f.value, words(f.takes))
		}
	}
	return nil
}

// spec moves what the other flags say to its place. The one secret of a
// credential that has no more holds everything as JSON, unless its field says
// otherwise.
func (a *oauthFlags) spec(given api.AuthSpec, scopes []string, secrets map[string]string) (api.AuthSpec, error) {
	params, err := authFields("token-param", a.params)
	if err != nil {
		return given, err
	}
	all := map[string]string{}
	for _, p := range params {
		if _, twice := all[p.Name]; twice {
			return given, api.Errorf(api.InvalidRequest, "--token-param %s is given twice", p.Name)
		}
		all[p.Name] = p.ValueTemplate
	}
	if len(all) == 0 {
		all = nil
	}
	header := api.AuthField{Name: cmp.Or(given.HeaderName, "Authorization"), ValueTemplate: given.ValueTemplate}
	if header.ValueTemplate == "" {
		header.ValueTemplate = "{{access_token}}"
		if strings.EqualFold(header.Name, "Authorization") {
			header.ValueTemplate = "Bearer {{access_token}}"
		}
	}
	spec := api.AuthSpec{Type: given.Type}
	if given.Type == "token-exchange" {
		spec.TokenExchange = &api.TokenExchangeSpec{
			TokenEndpoint: a.endpoint, BodyFormat: cmp.Or(a.body, "json"), Body: all, TokenField: cmp.Or(a.field, "access_token"), Headers: []api.AuthField{header},
		}
		return spec, nil
	}
	fields := slices.Sorted(maps.Keys(secrets))
	if len(fields) == 1 && fields[0] == "" {
		fields = []string{"oauth"}
	}
	spec.OAuth2 = &api.OAuth2Spec{
		Fields: fields, GrantType: cmp.Or(grants()[a.grant], a.grant), TokenEndpoint: a.endpoint, Scopes: scopes, ScopeSeparator: a.separator,
		ClientAuth: cmp.Or(a.clientAuth, "body"), BodyFormat: cmp.Or(a.body, "form"), TokenParams: all, Headers: []api.AuthField{header},
	}
	return spec, nil
}

// tokenFlags say what the tokens of one credential are for.
type tokenFlags struct {
	scopes, repositories, permissions []string
	subject                           string
}

func (t *tokenFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&t.scopes, "oauth-scope", nil, "OAuth: ask for this `SCOPE`, in place of the registry's; may be repeated")
	f.StringVar(&t.subject, "oauth-subject", "", "service account: act on behalf of this person, by `E-MAIL` address")
	f.StringArrayVar(&t.repositories, "github-repository", nil, "GitHub App: only for this repository, by its `NAME` without the owner; may be repeated")
	f.StringArrayVar(&t.permissions, "github-permission", nil, "GitHub App: only with this permission, `NAME=LEVEL`, e.g. contents=read; may be repeated")
}

// into adds what the flags say to the options of a credential's tokens. The
// scopes of a provider of one's own are in its auth already.
func (t *tokenFlags) into(options **api.TokenOptions, custom bool) error {
	given := api.TokenOptions{Subject: t.subject, Repositories: t.repositories}
	if !custom {
		given.Scopes = t.scopes
	}
	for _, p := range t.permissions {
		name, level, err := splitPair("github-permission", p)
		if err != nil {
			return err
		}
		if given.Permissions == nil {
			given.Permissions = map[string]string{}
		}
		if _, twice := given.Permissions[name]; twice {
			return api.Errorf(api.InvalidRequest, "--github-permission %s is given twice", name)
		}
		given.Permissions[name] = level
	}
	if len(given.Scopes)+len(given.Repositories)+len(given.Permissions) == 0 && given.Subject == "" {
		return nil
	}
	if *options == nil {
		*options = &api.TokenOptions{}
	}
	o := *options
	o.Scopes, o.Subject, o.Repositories, o.Permissions = given.Scopes, given.Subject, given.Repositories, given.Permissions
	return nil
}

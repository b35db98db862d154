package admin

import (
	"context"
	"crypto/rand"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/oauth"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

// Bounds of what a login is asked for with.
const (
	maxClientID   = 1 << 10
	maxOAuthScope = 128
	maxRedirect   = 1 << 10
)

// An oauthPlan is what a login at a provider comes to.
type oauthPlan struct {
	provider *registry.Provider
	login    *registry.Login
	name     registry.SecretName // of the secret that holds the result
	params   map[string]string   // of the host; nil where the account's is not named
	scope    grant.Scope
	client   oauth.Client
}

// planLogin finds the provider's login that has the endpoints of a flow.
func (a *Admin) planLogin(r *api.OAuthStart) (*oauthPlan, error) {
	p := a.registry.Provider(r.Provider)
	if p == nil {
		return nil, api.Errorf(api.InvalidRequest, "there is no provider %s", api.Quote(r.Provider)).WithHint("aivault registry list")
	}
	plan := &oauthPlan{provider: p}
	for i := range p.Logins {
		if o := p.Logins[i].OAuth2; o != nil && offersLogin(o, r.Flow) {
			plan.login = &p.Logins[i]
			break
		}
	}
	if plan.login == nil {
		return nil, noLogin(p, r.Flow)
	}
	field := materialField(plan.login.OAuth2)
	for _, s := range p.Secrets {
		if s.Field == field {
			plan.name = s
		}
	}
	if plan.name.Name == "" {
		return nil, api.Errorf(api.Internal, "the registry names no secret for the login of %s", p.ID)
	}
	if err := plan.place(r); err != nil {
		return nil, err
	}
	spec, ok := p.SpecFor(plan.login, plan.paramsOr())
	if !ok {
		return nil, api.Errorf(api.InvalidRequest, "%s has a host for each account: say which", p.ID).WithHint("add --host %s", hostTemplate(p))
	}
	plan.client = oauth.Client{Provider: p.ID, Spec: *spec.OAuth2, ID: r.ClientID, Scopes: slices.Clone(r.OAuthScopes)}
	return plan, checkScopes(r.OAuthScopes)
}

// offersLogin says whether a person can log in so: a client by itself has
// nobody to ask.
func offersLogin(o *api.OAuth2Spec, flow string) bool {
	if o.GrantType != "refresh_token" && o.GrantType != "authorization_code" {
		return false
	}
	if flow == api.FlowDevice {
		return o.DeviceEndpoint != ""
	}
	return o.AuthorizationEndpoint != ""
}

// noLogin says what to do in place of a login that there is not.
func noLogin(p *registry.Provider, flow string) error {
	if flow == api.FlowDevice && slices.ContainsFunc(p.Logins, func(l registry.Login) bool { return l.OAuth2 != nil && offersLogin(l.OAuth2, api.FlowCode) }) {
		return api.Errorf(api.InvalidRequest, "%s has no login by a code that is typed on another device", p.ID).
			WithHint("aivault oauth login %s --client-id ID", p.ID)
	}
	err := api.Errorf(api.InvalidRequest, "%s has no login in a browser", p.ID)
	if len(p.Secrets) > 0 {
		return err.WithHint("aivault secrets create --name %s", p.Secrets[0].Name)
	}
	return err
}

// materialField is the field that holds client and tokens together.
func materialField(o *api.OAuth2Spec) string {
	for _, f := range o.Fields {
		switch f {
		case "client_id", "client_secret", "refresh_token", "access_token":
		default:
			return f
		}
	}
	return ""
}

// place reads the scope and the host that a login names.
func (plan *oauthPlan) place(r *api.OAuthStart) (err error) {
	if plan.scope, err = parseScope(r.Scope); err != nil || r.Host == "" {
		return err
	}
	if len(plan.provider.HostParams) == 0 {
		return api.Errorf(api.InvalidRequest, "%s has the same host for everyone: --host is for providers that give each account its own", plan.provider.ID)
	}
	fresh := &vault.Secret{Name: plan.name.Name, Pin: plan.provider.ID}
	plan.params, err = registryHost(plan.provider, &api.CredentialCreate{Hosts: []string{r.Host}}, fresh)
	return err
}

// paramsOr are the host's parameters, or the provider's own where no host was
// named.
func (plan *oauthPlan) paramsOr() map[string]string {
	if plan.params != nil {
		return plan.params
	}
	return plan.provider.Defaults()
}

func checkClientID(id, hint string) error {
	switch {
	case id == "":
		return api.Errorf(api.InvalidRequest, "the client id is missing: it names the app that you registered at the provider").WithHint("%s", hint)
	case !plainText(id, maxClientID):
		return api.Errorf(api.InvalidRequest, "the client id %s is none: it is printable ASCII", api.Quote(id))
	}
	return nil
}

func checkScopes(list []string) error {
	if len(list) > maxOAuthScope {
		return api.Errorf(api.InvalidRequest, "a login asks for at most %d scopes", maxOAuthScope)
	}
	for _, s := range list {
		if !plainText(s, 256) || strings.ContainsAny(s, ` "\`) {
			return api.Errorf(api.InvalidRequest, "the OAuth scope %s is none: it is printable ASCII without blanks", api.Quote(s)).
				WithHint("give each scope by itself: --oauth-scope ONE --oauth-scope TWO")
		}
	}
	return nil
}

func plainText(s string, most int) bool {
	return s != "" && len(s) <= most && !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' })
}

// checkLoopback wants the one form of a redirect to this machine: anything
// else could hand the code to another.
func (plan *oauthPlan) checkLoopback(uri string) error {
	host := plan.client.Spec.RedirectHost
	if host == "" {
		host = "127.0.0.1"
	}
	rest, ok := strings.CutPrefix(uri, "http://"+host+":")
	port, isPath := strings.CutSuffix(rest, "/callback")
	n, err := strconv.ParseUint(port, 10, 16)
	if !ok || !isPath || err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return api.Errorf(api.InvalidRequest, "the redirect URI %s is none of a login at %s: it reads http://%s:PORT/callback", api.Quote(uri), plan.provider.ID, host)
	}
	return nil
}

// OAuthSetup gives the address where consent is given, for those who exchange
// the code elsewhere. It uses no PKCE, whose verifier would have to be handed
// out.
func (a *Admin) OAuthSetup(ctx context.Context, who grant.Caller, r api.OAuthSetup) (api.OAuthConsent, error) {
	if err := a.allow(ctx, who, "oauth setup"); err != nil {
		return api.OAuthConsent{}, err
	}
	plan, err := a.planLogin(&api.OAuthStart{
		Provider: r.Provider, Flow: api.FlowCode, ClientID: r.ClientID, OAuthScopes: r.OAuthScopes, Host: r.Host,
	})
	if err == nil {
		err = checkClientID(r.ClientID, "aivault oauth setup "+plan.provider.ID+" --client-id ID --redirect-uri URI")
	}
	if err != nil {
		return api.OAuthConsent{}, err
	}
	u, err := url.Parse(r.RedirectURI)
	loopback := err == nil && u.Scheme == "http" && slices.Contains([]string{"127.0.0.1", "localhost", "::1"}, u.Hostname())
	if err != nil || !plainText(r.RedirectURI, maxRedirect) || u.Scheme != "https" && !loopback || u.Host == "" || u.User != nil || u.Fragment != "" || strings.Contains(r.RedirectURI, "#") {
		return api.OAuthConsent{}, api.Errorf(api.InvalidRequest, "the redirect URI %s is none: it is https, or http on this machine, as registered at the provider", api.Quote(r.RedirectURI))
	}
	state := rand.Text()
	consent, err := plan.client.AuthorizationURL(r.RedirectURI, secret.FromString(state), "")
	if err != nil {
		return api.OAuthConsent{}, err
	}
	exchange := plan.client.Spec.CodeEndpoint
	if exchange == "" {
		exchange = plan.client.Spec.TokenEndpoint
	}
	return api.OAuthConsent{URL: consent, State: state, TokenEndpoint: exchange, Secret: plan.name.Name}, nil
}

// recordLogin writes what became of a login that makes no change of the vault.
func (a *Admin) recordLogin(ctx context.Context, who grant.Caller, rec audit.Record) error {
	rec.RequestID, rec.Caller = rand.Text(), audit.CallerOf(who)
	log, err := a.vault.Audit(ctx)
	if err != nil {
		return err
	}
	if _, err := log.Append(context.WithoutCancel(ctx), rec); err != nil {
		return api.Errorf(api.VaultUnavailable, "a login that cannot be recorded is refused: %w", err)
	}
	return nil
}

// loginOf is the login of a provider whose result a secret holds; nil when
// its value has another use.
func loginOf(p *registry.Provider, field string) *registry.Login {
	for i := range p.Logins {
		if o := p.Logins[i].OAuth2; o != nil && (o.GrantType == "refresh_token" || o.GrantType == "authorization_code") && materialField(o) == field {
			return &p.Logins[i]
		}
	}
	return nil
}

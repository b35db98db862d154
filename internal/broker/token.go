package broker

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/auth"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/oauth"
	"moldable.sh/aivault/internal/registry"
)

// wantTokens settles which tokens the calls of a registry provider's
// credential are made with: its logins with their endpoints filled, as far as
// the credential has what they ask with.
func (c *credential) wantTokens() error {
	p, asks := c.provider.entry, false
	for i := range p.Logins {
		l := &p.Logins[i]
		compiled := c.provider.logins[l]
		plain := l.Spec()
		if compiled.strategy == nil || !oauth.NeedsToken(&plain, c.Token) {
			continue
		}
		asks = true
		if !hasAll(compiled.fields, c.has) {
			continue
		}
		spec, ok := p.SpecFor(l, c.params)
		if !ok {
			compiled.err = c.broken("its host does not say where the tokens of its login " + l.ID + " are had")
		} else {
			compiled.want = c.want(spec, c.used(compiled), l)
			compiled.renders = renders(plain, compiled.fields)
		}
		if c.tokens == nil {
			c.tokens = map[*registry.Login]login{}
		}
		c.tokens[l] = compiled
	}
	if c.Token != nil && !asks {
		return c.broken("no login of " + c.Provider + " has tokens that its options could be about")
	}
	return nil
}

// wantOwnToken is wantTokens for a custom provider's credential.
func (c *credential) wantOwnToken() error {
	if !oauth.NeedsToken(c.Auth, c.Token) {
		if c.Token != nil {
			return c.broken("its auth has no tokens that its options could be about")
		}
		return nil
	}
	for _, e := range endpoints(*c.Auth) {
		if strings.Contains(e, "{") {
			return c.broken("the address of its tokens has a part in braces")
		}
	}
	spec, ok := auth.WithRegion(*c.Auth, c.Hosts)
	if !ok {
		return c.broken("none of its hosts says in which AWS region its role is assumed")
	}
	c.own.want, c.own.renders = c.want(spec, c.used(c.own), nil), renders(*c.Auth, c.own.fields)
	return nil
}

// want is what the calls of one login need. l is nil for a custom provider's.
func (c *credential) want(spec api.AuthSpec, fields []string, l *registry.Login) *oauth.Want {
	w := &oauth.Want{
		Spec: spec, Secrets: make(map[string]string, len(fields)), Pins: make(map[string]string, len(fields)), Provider: c.Provider, Renew: c.renewal(fields, l),
		Exceptions: egress.Destination{AllowPrivate: c.AllowPrivateNetwork, AllowPorts: c.AllowPorts, AllowHTTP: c.AllowHTTP, Roots: c.roots},
	}
	for _, f := range fields {
		id := c.Secrets[f]
		w.Secrets[f] = id
		if s := c.index.snapshot.Secret(id); s != nil {
			w.Pins[id] = oauth.PinOf(s)
		}
	}
	if c.Token != nil {
		w.Options = *c.Token
	}
	oauth.KeyOf(w) // kept in it
	return w
}

// renewal is the command by which a person starts over.
func (c *credential) renewal(fields []string, l *registry.Login) string {
	if l != nil && l.OAuth2 != nil && l.OAuth2.AuthorizationEndpoint+l.OAuth2.DeviceEndpoint != "" {
		return "aivault oauth login " + c.Provider + c.scope.Flags()
	}
	for _, f := range fields {
		if s := c.index.snapshot.Secret(c.Secrets[f]); s != nil && !c.public(f, s) {
			return "aivault secrets rotate " + Reference(c.index.snapshot.State(), s)
		}
	}
	return ""
}

// renders are the credential's own fields that are sent beside its token.
func renders(spec api.AuthSpec, fields []string) []string {
	var own []string
	if spec.Type == "oauth2" || spec.Type == "token-exchange" {
		for _, f := range auth.Fields(spec) {
			if slices.Contains(fields, f) {
				own = append(own, f)
			}
		}
	}
	return own
}

// endpoints are the addresses that get to know a spec's secrets and tokens.
func endpoints(spec api.AuthSpec) []string {
	var list []string
	if o := spec.OAuth2; o != nil {
		list = append(list, o.TokenEndpoint, o.CodeEndpoint, o.RevocationEndpoint)
	}
	if x := spec.TokenExchange; x != nil {
		list = append(list, x.TokenEndpoint)
	}
	return slices.DeleteFunc(list, func(e string) bool { return e == "" })
}

// endpointHosts are the hosts of these addresses.
func endpointHosts(spec api.AuthSpec) []string {
	var hosts []string
	for _, e := range endpoints(spec) {
		if u, err := url.Parse(e); err == nil && u.Host != "" {
			hosts = append(hosts, u.Host)
		}
	}
	return hosts
}

// token gets what the call is sent with, and the set that scrubs its answer.
// The vault may have changed by it: the set is of how it stands now, and holds
// the token that was got. The caller wipes the token and releases the set.
func (b *Broker) token(ctx context.Context, p *plan, refused uint64) (oauth.Token, *scrubSet, error) {
	host := bareHost(p.decision.Host)
	if p.login.want == nil {
		set, err := b.scrub.acquire(p.credential.index, host, p.context)
		return oauth.Token{}, set, err
	}
	want := *p.login.want
	want.Refused = refused
	got, err := b.tokens.Token(ctx, want)
	if err != nil {
		return got, nil, err
	}
	ix, err := b.index(ctx)
	if err != nil {
		got.Wipe()
		return got, nil, err
	}
	set, err := b.scrub.acquire(ix, host, p.context)
	if err == nil && !set.tokens[tokenID{got.Key, got.Of, got.Version}] {
		// It is not in the vault as that stands, or there was another one
		// meanwhile.
		set.release()
		b.scrub.keepToken(p.credential, got)
		set, err = b.scrub.acquire(ix, host, p.context)
	}
	if err != nil {
		got.Wipe()
		return got, nil, err
	}
	return got, set, nil
}

// What the outcome says of a call whose token the API refused.
const (
	noteReplayed = "sent again with a new token after status 401"
	noteNotAgain = "status 401: the token was renewed, and the body could not be sent again"
)

// again sends a call once more that was answered 401, with another token, if
// there is one and its body can be sent again; else the answer stands. Where
// nobody but a person can get another one, the call fails and says so.
func (b *Broker) again(ctx context.Context, p *plan, refused uint64, response *egress.Response, set *scrubSet) (*egress.Response, *scrubSet, error) {
	if p.login.want == nil || response.Status != http.StatusUnauthorized {
		return response, set, nil
	}
	got, other, err := b.token(ctx, p, refused)
	if err != nil {
		p.note = "status 401, and no other token: " + api.AsError(err).Message
		if renew := p.login.want.Renew; api.CodeOf(err) != api.OAuthRefreshFailed || renew == "" || api.AsError(err).Hint != renew {
			return response, set, nil
		}
		p.note = "status 401"
		_ = response.Body.Close()
		set.release()
		return nil, nil, err
	}
	defer got.Wipe()
	if !p.rewind() {
		p.note = noteNotAgain
		set.release()
		return response, other, nil
	}
	p.note = noteReplayed
	_ = response.Body.Close()
	set.release()
	if response, err = b.transmit(ctx, p, got.Fields); err != nil {
		other.release()
		return nil, nil, err
	}
	return response, other, nil
}

// rewind has the body ready to be sent a second time, byte for byte; false
// when it is gone.
func (p *plan) rewind() bool {
	sent, text := &p.body.sent, p.call.Request.Body
	switch {
	case sent.Reader == nil:
	case sent.Whole != nil:
		sent.Reader = bytes.NewReader(sent.Whole)
	case p.body.read:
		sent.Reader = bytes.NewReader(p.body.whole)
	case p.body.given.Reader == nil && text != nil:
		sent.Reader = strings.NewReader(*text)
	default:
		return false
	}
	return true
}

// noted joins why a call ended with what happened on its way.
func (p *plan) noted(reason string) string {
	switch {
	case p.note == "":
		return reason
	case reason == "":
		return p.note
	}
	return reason + "; " + p.note
}

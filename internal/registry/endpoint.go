package registry

import (
	"maps"
	"strings"

	"moldable.sh/aivault/internal/api"
)

// SpecFor is a login's auth with the parameters of a credential's host in its
// endpoints. ok is false when an endpoint needs one that is not there, or that
// the provider does not admit.
func (p *Provider) SpecFor(l *Login, params map[string]string) (spec api.AuthSpec, ok bool) {
	spec = l.Spec()
	for name, value := range params {
		if h := p.hostParam(name); h == nil || !p.admits(h, value) {
			return spec, false
		}
	}
	ok = true
	fill := func(s *string) {
		for name, value := range params {
			*s = strings.ReplaceAll(*s, "{"+name+"}", value)
		}
		if strings.Contains(strings.ReplaceAll(*s, "{{", ""), "{") {
			ok = false
		}
	}
	if spec.OAuth2 != nil {
		o := *spec.OAuth2
		for _, endpoint := range []*string{&o.TokenEndpoint, &o.CodeEndpoint, &o.AuthorizationEndpoint, &o.DeviceEndpoint, &o.RevocationEndpoint} {
			fill(endpoint)
		}
		o.TokenParams = maps.Clone(o.TokenParams)
		for name, value := range o.TokenParams {
			fill(&value)
			o.TokenParams[name] = value
		}
		spec.OAuth2 = &o
	}
	if v := spec.SigV4; v != nil && v.Region == "{region}" {
		own := *v
		fill(&own.Region)
		spec.SigV4 = &own
	}
	if spec.TokenExchange != nil {
		x := *spec.TokenExchange
		fill(&x.TokenEndpoint)
		spec.TokenExchange = &x
	}
	return spec, ok
}

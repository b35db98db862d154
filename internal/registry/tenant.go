package registry

// MatchHost says which parameters make one of the provider's hosts out of
// host (a name without port, lower case). ok is false when none can, and for a
// provider whose hosts have no parameters. Of a self-hosted provider every
// valid host matches, with the parameter "host".
func (p *Provider) MatchHost(host string) (params map[string]string, ok bool) { panic("contract") }

// FillHost puts parameters into a host of the provider. ok is false when one
// is missing, is not of its pattern or values, or does not give a valid host.
func (p *Provider) FillHost(host string, params map[string]string) (filled string, ok bool) {
	panic("contract")
}

// Defaults are the parameters that a credential has when its maker names no
// host: nil when a tenant has to be named. A provider whose hosts have no
// parameters has an empty map.
func (p *Provider) Defaults() map[string]string { panic("contract") }

// Tenant is the part of the parameters that names a tenant, in the form in
// which it is sealed with a value (shop=my-store), "" when there is none: a
// region is no tenant.
func (p *Provider) Tenant(params map[string]string) string { panic("contract") }

// Set returns nil, nil for an id that is no set of the registry.
func (r *Registry) Set(id string) (*Provider, *Set) { panic("contract") }

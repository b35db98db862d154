package admin

import (
	"net/netip"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/policy"
)

// checkOwnHosts judges the hosts and the exceptions of a credential whose
// hosts are the operator's to say.
func checkOwnHosts(r *api.CredentialCreate) error {
	if len(r.AllowPorts) > maxPorts || len(r.Hosts) > maxHosts {
		return api.Errorf(api.InvalidRequest, "a credential has at most %d hosts and %d ports", maxHosts, maxPorts)
	}
	for _, port := range r.AllowPorts {
		if port < 1 || port > 65535 {
			return api.Errorf(api.InvalidRequest, "port %d: a port lies between 1 and 65535", port)
		}
	}
	for i, h := range r.Hosts {
		if err := checkOwnHost(r, h); err != nil {
			return err
		}
		if slices.Contains(r.Hosts[:i], h) {
			return api.Errorf(api.InvalidRequest, "host %s is given twice", h)
		}
	}
	if r.AllowHTTP && r.CAPEM != "" {
		return api.Errorf(api.InvalidRequest, "a CA file says nothing about plain http: leave one of the two out")
	}
	return checkCAs(r.CAPEM)
}

func checkOwnHost(r *api.CredentialCreate, h string) error {
	name, port, err := policy.ParseHost(h)
	if err != nil {
		return err
	}
	usual := port == 0 || port == 443 || port == 80 && r.AllowHTTP
	if !usual && !slices.Contains(r.AllowPorts, port) {
		return api.Errorf(api.InvalidRequest, "host %s names a port other than 443: allow it for this credential", h).
			WithHint("add --allow-port %d", port)
	}
	return checkOwnAddr(r, "host "+h, name, r.AllowHTTP)
}

// checkOwnAddr holds what is an address, and no name, to the exceptions.
func checkOwnAddr(r *api.CredentialCreate, what, name string, plain bool) error {
	addr, err := netip.ParseAddr(name)
	if err != nil {
		return nil // a name: where it leads is told when it is dialled
	}
	switch public, private := egress.CheckAddr(addr, false), egress.CheckAddr(addr, true); {
	case private != nil:
		return api.Errorf(api.PolicyViolation, "%s: %w", what, private)
	case plain && public == nil:
		return api.Errorf(api.PolicyViolation, "%s is a public address, and plain http goes to loopback and private ones alone", what)
	case public != nil && !r.AllowPrivateNetwork && !r.AllowHTTP:
		return api.Errorf(api.PolicyViolation, "%s: %w", what, public).WithHint("add --allow-private-network")
	}
	return nil
}

// notice tells who made a custom credential that the registry has its host.
func (a *Admin) notice(r *api.CredentialCreate) string {
	for _, h := range r.Hosts {
		id, found := a.registry.HostProvider(strings.ToLower(h))
		if !found {
			continue
		}
		text := h + " is a host of " + id + ", which the registry knows: aivault credential create " + r.ID + " --provider " + id
		for _, s := range a.registry.Provider(id).Secrets[:1] {
			text += " --secret " + s.Field + "=NAME"
		}
		return text + " would have its capabilities"
	}
	return ""
}

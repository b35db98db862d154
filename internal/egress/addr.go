package egress

import (
	"net/netip"

	"code.dny.dev/ssrf"

	"moldable.sh/aivault/internal/api"
)

// CheckAddr says whether a may be dialled. Private and loopback addresses
// need allowPrivate; link-local, metadata, multicast and unspecified ones are
// refused always, as is every other range that IANA lists as special.
func CheckAddr(a netip.Addr, allowPrivate bool) error {
	class, private := classify(a)
	switch {
	case class == "", private && allowPrivate:
		return nil
	case private:
		return api.Errorf(api.PolicyViolation, "%s is not dialled without the operator's exception", class).
			WithHint("the operator can allow it to one credential: aivault credential create ... --allow-private-network")
	}
	return api.Errorf(api.PolicyViolation, "%s is never dialled", class)
}

// checkPlain says whether a may be called over plain http: what everyone on
// the way can read goes no further than this machine and its own network.
func checkPlain(a netip.Addr) error {
	if class, _ := classify(a); class == "" {
		return api.Errorf(api.PolicyViolation, "a public address is never called over plain http").
			WithHint("make the credential again without --allow-http")
	}
	return CheckAddr(a, true)
}

// A special is a range or address that the tables do not name as we need it:
// what an operator may allow, and what not even an operator may.
type special struct {
	prefix  string
	class   string
	private bool // reachable with the operator's exception
}

// specials is ordered: the first that contains an address decides. Metadata
// services stand before the private ranges that they lie in.
var specials = parse([]special{
	{"168.63.129.16/32", "a cloud's metadata address", false},   // Azure
	{"100.100.100.200/32", "a cloud's metadata address", false}, // Alibaba
	{"192.0.0.192/32", "a cloud's metadata address", false},     // Oracle
	{"fd00:ec2::/32", "a cloud's metadata address", false},      // AWS, with its name and time servers
	{"fd20:ce::/32", "a cloud's metadata address", false},       // Google
	{"fd00:c1::/32", "a cloud's metadata address", false},       // Oracle
	{"0.0.0.0/8", "an unspecified address", false},
	{"169.254.0.0/16", "a link-local address", false},
	{"224.0.0.0/4", "a multicast address", false},
	{"255.255.255.255/32", "the broadcast address", false},
	{"::/128", "an unspecified address", false},
	{"fe80::/10", "a link-local address", false},
	{"ff00::/8", "a multicast address", false},
	{"127.0.0.0/8", "a loopback address", true},
	{"::1/128", "a loopback address", true},
	{"10.0.0.0/8", "a private address", true},
	{"172.16.0.0/12", "a private address", true},
	{"192.168.0.0/16", "a private address", true},
	{"100.64.0.0/10", "a private address", true},
	{"fc00::/7", "a private address", true},
	{"64:ff9b:1::/48", "an address that wraps another", false}, // local NAT64: where the other lies cannot be told
	{"2001::/32", "an address that wraps another", false},      // Teredo
	{"2002::/16", "an address that wraps another", false},      // 6to4
})

type specialRange struct {
	special
	net netip.Prefix
}

func parse(list []special) []specialRange {
	out := make([]specialRange, len(list))
	for i, s := range list {
		out[i] = specialRange{s, netip.MustParsePrefix(s.prefix)}
	}
	return out
}

// classify names what is special about an address ("" for a public one), and
// says whether the operator's exception covers it.
func classify(a netip.Addr) (class string, private bool) {
	if !a.IsValid() {
		return "what is no address", false
	}
	if a.Zone() != "" {
		return "an address with a zone", false
	}
	a = a.Unmap()
	for i := range specials {
		if specials[i].net.Contains(a) {
			return specials[i].class, specials[i].private
		}
	}
	if a.Is4() {
		return classifyListed(a, ssrf.IPv4DeniedPrefixes), false
	}
	if ssrf.IPv6NAT64Prefix.Contains(a) {
		// The gateway translates it: what counts is where that leads. No
		// exception: a gateway has no business with private addresses.
		b := a.As16()
		class, _ = classify(netip.AddrFrom4([4]byte(b[12:])))
		return class, false
	}
	if !ssrf.IPv6GlobalUnicast.Contains(a) {
		return "a special-purpose address", false
	}
	if b := a.As16(); (b[8]|0x02) == 0x02 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe {
		return "an address that wraps another", false // ISATAP, under any prefix
	}
	return classifyListed(a, ssrf.IPv6DeniedPrefixes), false
}

func classifyListed(a netip.Addr, list []netip.Prefix) string {
	for _, p := range list {
		if p.Contains(a) {
			return "a special-purpose address"
		}
	}
	return ""
}

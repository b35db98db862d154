package registry

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"moldable.sh/aivault/internal/api"
)

// Longest name and label that DNS can carry.
const (
	maxHostName  = 253
	maxHostLabel = 63
)

// ValidHost says why s is not a host name as it stands in a certificate and
// in DNS: lower-case A-labels without a trailing dot. Names that some
// resolvers read as an address (2130706433, 0x7f.1, 127.1) are refused, and
// so are addresses: they are the caller's to tell apart first.
func ValidHost(s string) error {
	switch {
	case s == "":
		return errors.New("host is empty")
	case len(s) > maxHostName:
		return fmt.Errorf("host is longer than %d characters", maxHostName)
	case strings.HasSuffix(s, "."):
		return fmt.Errorf("host %s ends in a dot", api.Quote(s))
	}
	for i := range len(s) {
		if s[i] >= 0x80 {
			return nonASCIIHost(s)
		}
	}
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if err := validLabel(s, l); err != nil {
			return err
		}
	}
	// The rule by which a URL parser takes a host for an IPv4 address is that
	// its last label is a number, in whatever notation.
	last := labels[len(labels)-1]
	if numeric(last) || strings.HasPrefix(last, "0x") {
		return fmt.Errorf("host %s could be read as an address", api.Quote(s))
	}
	return nil
}

func validLabel(host, l string) error {
	switch {
	case l == "":
		return fmt.Errorf("host %s has an empty label", api.Quote(host))
	case len(l) > maxHostLabel:
		return fmt.Errorf("host %s has a label of more than %d characters", api.Quote(host), maxHostLabel)
	case l[0] == '-' || l[len(l)-1] == '-':
		return fmt.Errorf("host %s has a label that starts or ends with '-'", api.Quote(host))
	}
	for i := range len(l) {
		c := l[i]
		switch {
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-':
		case 'A' <= c && c <= 'Z':
			return fmt.Errorf("host %s is not in lower case", api.Quote(host))
		default:
			return fmt.Errorf("host %s holds a character that no host name may have", api.Quote(host))
		}
	}
	if len(l) >= 4 && l[2:4] == "--" {
		// Only a real A-label may look like one: otherwise two libraries could
		// decode it to two names.
		u, err := idna.Lookup.ToUnicode(l)
		if err != nil || !strings.HasPrefix(l, "xn--") {
			return fmt.Errorf("host %s has a label that is no valid A-label", api.Quote(host))
		}
		if a, err := idna.Lookup.ToASCII(u); err != nil || a != l {
			return fmt.Errorf("host %s has a label that is no valid A-label", api.Quote(host))
		}
	}
	return nil
}

// address reads name[:port], where name is a valid host or an IP address, and
// returns the one form of it: an IPv6 address has brackets only before a port.
func address(s string) (string, bool) {
	host, port, hasPort := s, "", false
	if inside, ok := strings.CutPrefix(s, "["); ok {
		var rest string
		if host, rest, ok = strings.Cut(inside, "]"); !ok || !strings.Contains(host, ":") {
			return "", false
		}
		if port, hasPort = strings.CutPrefix(rest, ":"); !hasPort && rest != "" {
			return "", false
		}
	} else if strings.Count(s, ":") == 1 {
		host, port, hasPort = strings.Cut(s, ":")
	}
	if n, err := strconv.ParseUint(port, 10, 16); hasPort && (err != nil || n == 0 || strconv.FormatUint(n, 10) != port) {
		return "", false
	}
	if a, err := netip.ParseAddr(host); err == nil {
		// One spelling an address, and none that wraps another address.
		if a.Zone() != "" || a.Is4In6() || a.String() != host {
			return "", false
		}
	} else if ValidHost(host) != nil {
		return "", false
	}
	switch {
	case !hasPort:
		return host, true
	case strings.Contains(host, ":"):
		return "[" + host + "]:" + port, true
	}
	return host + ":" + port, true
}

func nonASCIIHost(s string) error {
	if a, err := idna.Lookup.ToASCII(s); err == nil && ValidHost(a) == nil {
		return fmt.Errorf("host %s is not ASCII; its A-label form is %s", api.Quote(s), a)
	}
	return fmt.Errorf("host %s is not ASCII", api.Quote(s))
}

func numeric(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// ValidCapabilityID says whether s is provider/name.
func ValidCapabilityID(s string) bool {
	provider, name, ok := strings.Cut(s, "/")
	return ok && api.ValidID(provider) && api.ValidID(name)
}

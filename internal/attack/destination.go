package attack

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/standin"
)

// oddHosts are names that some reader takes for the given one, or for another.
func oddHosts(host, port string) []string {
	return []string{
		host + ".:" + port, strings.ToUpper(host) + ":" + port, host + "%2e:" + port, "user@" + host + ":" + port, "user:pass@" + host + ":" + port, "evil.test\\@" + host + ":" + port, host + ":" + port + "\\@evil.test", host + ":" + port + "@evil.test", host + ":" + port + "#@evil.test",
		"[" + host + "]:" + port, host + "\x00:" + port, host + "\x00.evil.test:" + port, host + "\r\n:" + port, host + "\t:" + port, " " + host + ":" + port, host + " :" + port, host + ":" + port + "/", host + ":" + port + "/v1", host + ":" + port + "?x", "https://" + host + ":" + port, "//" + host + ":" + port,
		"\uff4cocalhost:" + port, "loc\u00adalhost:" + port, "local\u200bhost:" + port, "l\u043ecalhost:" + port, "127\uff0e0\uff0e0\uff0e1:" + port, "127\u30020\u30020\u30021:" + port, "\u2460.test", "xn--:" + port, "xn--a\u00e9:" + port, "*.localhost:" + port, "-" + host, host + "-", "a..b", ".", "..", "", "a_b.test", "unix:/var/run/aivaultd.sock", "unix:" + host, "%6cocalhost:" + port,
	}
}

// oddAddresses are notations of loopback, private, metadata and other special
// addresses, all but the usual one.
func oddAddresses() []string {
	var all []string
	for _, ip := range [][4]byte{{127, 0, 0, 1}, {169, 254, 169, 254}, {10, 0, 0, 1}, {0, 0, 0, 0}} {
		n := uint32(ip[0])<<24 | uint32(ip[1])<<16 | uint32(ip[2])<<8 | uint32(ip[3])
		all = append(all,
			strconv.FormatUint(uint64(n), 10), fmt.Sprintf("0x%x", n), fmt.Sprintf("0X%X", n), fmt.Sprintf("0%o", n), fmt.Sprintf("%d.%d", ip[0], n&0xffffff), fmt.Sprintf("%d.%d.%d", ip[0], ip[1], n&0xffff),
			fmt.Sprintf("0x%x.0x%x.0x%x.0x%x", ip[0], ip[1], ip[2], ip[3]), fmt.Sprintf("0%o.0%o.0%o.0%o", ip[0], ip[1], ip[2], ip[3]), fmt.Sprintf("%03d.%03d.%03d.%03d", ip[0], ip[1], ip[2], ip[3]), fmt.Sprintf("%d.%d.%d.%d.", ip[0], ip[1], ip[2], ip[3]),
			fmt.Sprintf("::ffff:%d.%d.%d.%d", ip[0], ip[1], ip[2], ip[3]), fmt.Sprintf("[::ffff:%x:%x]", n>>16, n&0xffff), fmt.Sprintf("::%d.%d.%d.%d", ip[0], ip[1], ip[2], ip[3]), fmt.Sprintf("64:ff9b::%d.%d.%d.%d", ip[0], ip[1], ip[2], ip[3]), fmt.Sprintf("[64:ff9b::%x:%x]", n>>16, n&0xffff),
			fmt.Sprintf("2002:%x:%x::1", n>>16, n&0xffff), fmt.Sprintf("2001:0:%x:%x::1", n>>16, n&0xffff), fmt.Sprintf("2001::%x:%x", ^n>>16, ^n&0xffff), fmt.Sprintf("64:ff9b:1::%x:%x", n>>16, n&0xffff), fmt.Sprintf("2001:db8::5efe:%x:%x", n>>16, n&0xffff))
	}
	return append(all, "127.1", "0", "[0:0:0:0:0:0:0:1]", "0000:0000:0000:0000:0000:0000:0000:0001", "::00:1", "[::1%lo]", "fe80::1%eth0", "fe80::1%25eth0", "FE80::1", "::1%1", "1.2.3.4.5", "256.1.1.1", "127.0.0.1%00", "0127.0.0.1", "127.0.0.0x1", "[127.0.0.1]")
}

// special are addresses in their usual notation, which only an exception could
// reach; never says that none could.
var special = []struct {
	addr  string
	never bool
}{
	{"127.0.0.1", false}, {"127.255.255.254", false}, {"10.0.0.1", false}, {"172.16.0.1", false}, {"172.31.255.255", false}, {"192.168.1.1", false}, {"100.64.0.1", false}, {"100.127.255.255", false}, {"::1", false}, {"fd12:3456::1", false}, {"fc00::1", false},
	{"0.0.0.0", true}, {"0.1.2.3", true}, {"169.254.0.1", true}, {"169.254.169.254", true}, {"169.254.170.2", true}, {"168.63.129.16", true}, {"100.100.100.200", true}, {"192.0.0.192", true}, {"192.0.0.1", true}, {"192.0.2.1", true}, {"198.18.0.1", true}, {"198.19.255.255", true}, {"198.51.100.1", true}, {"203.0.113.1", true},
	{"192.88.99.1", true}, {"224.0.0.1", true}, {"239.255.255.255", true}, {"240.0.0.1", true}, {"255.255.255.255", true}, {"::", true}, {"fe80::1", true}, {"fec0::1", true}, {"ff02::1", true}, {"fd00:ec2::254", true}, {"fd00:ec2::23", true}, {"fd20:ce::254", true}, {"100::1", true}, {"2001:db8::1", true}, {"2001:2::1", true}, {"2002:7f00:1::1", true}, {"2001::1", true}, {"64:ff9b::7f00:1", true},
	{"64:ff9b::a9fe:a9fe", true}, {"64:ff9b::a00:1", true}, {"64:ff9b:1::1", true}, {"3fff::1", true}, {"5f00::1", true}, {"::7f00:1", true}, {"4000::1", true},
}

func destinationAttacks() []Attack {
	honest := func(t *T) { t.passes("the call as it should be", t.honest()) }
	refusals := []api.Code{api.InvalidRequest, api.PolicyViolation}
	return []Attack{
		{
			ID: "envelope-destination", Class: "destination", Title: "a URL, host, scheme, port, proxy or address in the envelope or its request, in the spellings that other tools know",
			Harm: "The caller would choose where the credential goes.",
			Run: func(t *T) {
				for _, name := range []string{"url", "uri", "host", "hostname", "scheme", "authority", "port", "baseUrl", "base_url", "target", "proxy", "resolve", "address", "ip", "sni", "provider", "upstream", "endpoint", "connectTo", "Host", "URL", "allowPrivateNetwork", "caPem", "auth", "secret", "followRedirects", "insecure"} {
					for _, value := range []string{`"https://evil.test/"`, `"evil.test"`, `true`, `443`, `null`, `{}`} {
						member := `,"` + name + `":` + value
						t.refused("call."+name, t.honest().with(func(c *call) { c.more = member }), api.InvalidRequest)
						t.refused("request."+name, t.honest().with(func(c *call) { c.moreRequest = member }), api.InvalidRequest)
					}
				}
			},
			Twin: honest,
		},
		{
			ID: "odd-hosts", Class: "destination", Title: "hosts that name one machine to one reader and another to the next: trailing dot, case, userinfo, backslash, brackets, NUL, control bytes, full-width letters and dots, punycode, a scheme, a socket's path",
			Harm: "A credential would go to a host that nobody meant to name.",
			Run: func(t *T) {
				t.noHosts("host", oddHosts("localhost", strconv.Itoa(int(t.up.Addr().Port()))), refusals...)
			},
			Twin: reachable,
		},
		{
			ID: "odd-ports", Class: "destination", Title: "ports with zeros, signs, too many bits, none or two, and a port that the credential does not allow",
			Harm: "A number that wraps or is cut leads to a service that nobody allowed.",
			Run: func(t *T) {
				id, err := t.storeSecret("port", t.newDecoy(), "")
				t.must(err)
				port := int(t.up.Addr().Port())
				for _, p := range []string{"0443", "00443", "65979", strconv.Itoa(port + 65536), "0" + strconv.Itoa(port), "+443", "-1", "0", "65536", "99999999999999999999", "443a", "0x1bb", "", " 443", "443 ", "443:" + strconv.Itoa(port), "\uff14\uff14\uff13", "4e2", "443.0"} {
					t.denied(fmt.Sprintf("port %+q", p), t.tryHost(id, "localhost:"+p), refusals...)
				}
				r := t.toHost(id, t.host)
				r.AllowPrivateNetwork = true
				t.denied("a port without its exception", t.makeCredential(r), refusals...)
				for _, p := range []int{0, -1, 65536, 65979} {
					r := t.toHost(id, "localhost")
					r.AllowPorts = []int{p}
					t.denied("an exception for port "+strconv.Itoa(p), t.makeCredential(r), refusals...)
				}
			},
			Twin: reachable,
		},
		{
			ID: "odd-addresses", Class: "destination", Title: "loopback, private and metadata addresses as decimal, octal, hexadecimal and short numbers, mapped, through NAT64, 6to4, Teredo and ISATAP, with zones and leading zeros",
			Harm: "An address guard that compares texts would let the cloud's metadata service be called.",
			Run: func(t *T) {
				t.noHosts("address", oddAddresses(), refusals...)
			},
			Twin: reachable,
		},
		{
			ID: "special-addresses", Class: "destination", Title: "private addresses without the operator's exception; metadata, link-local, multicast, unspecified, carrier, benchmark and reserved ones with it, also as plain http",
			Harm: "A call would reach what is inside the network, or the cloud's own keys.",
			Run: func(t *T) {
				id, err := t.storeSecret("special", t.newDecoy(), "")
				t.must(err)
				try := func(host string, private, plain bool) error {
					r := t.toHost(id, host)
					r.AllowPrivateNetwork, r.AllowHTTP = private, plain
					return t.makeCredential(r)
				}
				for _, s := range special {
					t.denied(s.addr, try(s.addr, false, false), api.PolicyViolation)
					if s.never {
						t.denied(s.addr+" with the exception", try(s.addr, true, false), api.PolicyViolation)
						t.denied(s.addr+" over plain http", try(s.addr, true, true), api.PolicyViolation)
					}
				}
				t.denied("a public address over plain http", try("93.184.215.14", false, true), api.PolicyViolation)
			},
			Twin: reachable,
		},
		{
			ID: "private-name", Class: "destination", Title: "a name that resolves to loopback, under a credential without the exception",
			Harm: "A name of the attacker's would lead into this machine.",
			Run: func(t *T) {
				for _, host := range []string{"localhost", t.host} {
					_, capability, _ := t.credential(func(r *api.CredentialCreate) {
						r.Hosts, r.CAPEM = []string{host}, string(t.up.CAPEM())
						r.AllowPorts = []int{int(t.up.Addr().Port())}
					})
					t.failed("host "+host, call{capability: capability, method: "GET", path: "/v1/below/x"}, 0, api.PolicyViolation)
				}
			},
			Twin: reachable,
		},
		{
			ID: "borrowed-connection", Class: "destination", Title: "a call without exceptions (private addresses, CA, port) to the host with which another credential has a connection open",
			Harm: "One credential's exception would serve all.",
			Run: func(t *T) {
				t.reached("the connection is open", t.honest())
				port := []int{int(t.up.Addr().Port())}
				for what, v := range map[string]struct {
					change func(*api.CredentialCreate)
					code   api.Code
				}{
					"no CA":              {func(r *api.CredentialCreate) { r.AllowPrivateNetwork = true }, api.UpstreamUnreachable},
					"no private network": {func(r *api.CredentialCreate) { r.CAPEM = string(t.up.CAPEM()) }, api.PolicyViolation},
				} {
					_, capability, _ := t.credential(func(r *api.CredentialCreate) {
						r.Hosts, r.AllowPorts = []string{t.host}, port
						v.change(r)
					})
					t.failed(what, call{capability: capability, method: "GET", path: "/v1/below/x"}, 1, v.code)
				}
			},
			Twin: func(t *T) {
				before := t.up.Connections()
				t.passes("a second call of the credential that has it", t.honest())
				if n := t.up.Connections(); n > before+1 {
					t.Errorf("twin: %d more connections", n-before)
				}
			},
		},
		{
			ID: "redirects", Class: "destination", Title: "answers 300 to 308 that lead elsewhere, here again, to plain http, to a file, with the secret in `Location`, `Refresh` or `Link`",
			Harm: "A redirect would carry the credential to another host, or hand it to the caller.",
			Run: func(t *T) {
				other, err := standin.StartHostile()
				t.must(err)
				defer other.Close()
				for _, status := range []int{300, 301, 302, 303, 305, 306, 307, 308} {
					for _, to := range []string{"https://" + localhost(other) + "/stolen", "https://" + t.host + "/v1/exact?again", "/v1/below/again", "http://" + localhost(other) + "/", "//" + localhost(other) + "/x", "https://evil.test/?key=" + queryEscape(t.decoy), "file:///etc/passwd", t.decoy} {
						for _, method := range []string{"GET", "POST"} {
							t.up.Answer(sized(strconv.Itoa(status)+" Moved", "Location: "+to+"\r\nContent-Location: "+to+"\r\nRefresh: 0;url="+to+"\r\nLink: <"+to+">\r\n", "moved to "+to))
							t.variants++
							what := fmt.Sprintf("%d to %s", status, strings.ReplaceAll(to, t.decoy, "DECOY"))
							a := t.reached(what, t.honest().with(func(c *call) { c.method = method }))
							if a.status != status || a.header.Get("Location") != "" || a.header.Get("Refresh") != "" || a.header.Get("Link") != "" {
								t.Errorf("%s: status %d, header %v", what, a.status, a.header)
							}
						}
					}
				}
				if n := other.Connections(); n > 0 {
					t.Errorf("the place that redirects led to had %d connections", n)
				}
				t.came("not followed")
			},
			Twin: honest,
		},
		{
			ID: "no-tls", Class: "destination", Title: "an upstream that speaks plain http where TLS was meant, or whose certificate nobody vouches for",
			Harm: "The credential would cross the network for everyone to read, or go to whoever answers.",
			Run: func(t *T) {
				plain, err := standin.StartHostilePlain()
				t.must(err)
				defer plain.Close()
				_, capability, decoy := t.credential(func(r *api.CredentialCreate) {
					r.Hosts, r.CAPEM = []string{localhost(plain)}, string(t.up.CAPEM())
					r.AllowPrivateNetwork, r.AllowPorts = true, []int{int(plain.Addr().Port())}
				})
				t.failed("plain http", call{capability: capability, method: "GET", path: "/v1/below/x"}, 1, api.UpstreamUnreachable)
				if len(plain.Take()) > 0 || bytes.Contains(plain.Strays(), []byte(decoy)) || bytes.Contains(plain.Strays(), []byte("/v1/below")) {
					t.Errorf("plain http: the request was sent in the clear")
				}
				stranger, err := standin.StartHostile()
				t.must(err)
				defer stranger.Close()
				_, capability, _ = t.credential(func(r *api.CredentialCreate) {
					r.Hosts, r.CAPEM = []string{localhost(stranger)}, string(t.up.CAPEM())
					r.AllowPrivateNetwork, r.AllowPorts = true, []int{int(stranger.Addr().Port())}
				})
				t.failed("a certificate of another CA", call{capability: capability, method: "GET", path: "/v1/below/x"}, 0, api.UpstreamUnreachable)
				if n := len(stranger.Take()); n > 0 {
					t.Errorf("a certificate of another CA: %d requests were sent", n)
				}
				_, capability, _ = t.credential(func(r *api.CredentialCreate) {
					r.Hosts, r.CAPEM = []string{"127.0.0.2:" + strconv.Itoa(int(t.up.Addr().Port()))}, string(t.up.CAPEM())
					r.AllowPrivateNetwork, r.AllowPorts = true, []int{int(t.up.Addr().Port())}
				})
				t.failed("a certificate of another host", call{capability: capability, method: "GET", path: "/v1/below/x"}, -1, api.UpstreamUnreachable)
			},
			Twin: reachable,
		},
		{
			ID: "pinned-secrets", Class: "destination", Title: "a pinned secret in a credential of a custom provider, of another provider, with other hosts, with exceptions; hosts that begin or end like the right one",
			Harm: "A key of one provider's would be sent to another's.",
			Run: func(t *T) {
				ref := t.pinned("OPENAI_API_KEY")
				for _, h := range []string{"evil.test", "api.openai.com", "api.openai.com.evil.test", "evil-api.openai.com", "openai.com", t.host, "api.openai.com:8443", "localhost"} {
					for _, r := range []api.CredentialCreate{
						{Provider: t.name(Provider), Auth: &api.AuthSpec{Type: "header"}, Hosts: []string{h}},
						{Provider: t.name(Provider), Auth: &api.AuthSpec{Type: "header"}, Hosts: []string{h}, AllowPrivateNetwork: true, AllowPorts: []int{8443, int(t.up.Addr().Port())}, CAPEM: string(t.up.CAPEM())},
						{Provider: "openai", Hosts: []string{h}, AllowPrivateNetwork: true},
						{Provider: "openai", Hosts: []string{h}, CAPEM: string(t.up.CAPEM())},
						{Provider: "github", Hosts: []string{h}},
						{Provider: "openai", Auth: &api.AuthSpec{Type: "query", ParamName: "k"}},
					} {
						r.ID, r.SecretRefs, r.Scope = t.name(Provider), map[string]string{"": ref}, pinnedScope
						t.denied(fmt.Sprintf("%s to %s", r.Provider, h), t.operate("POST", api.RouteCredentials, r, nil), refusals...)
					}
				}
				// A custom capability of the provider's goes to the provider's hosts.
				for _, h := range []string{"evil.test", "api.openai.com.evil.test", "evil-api.openai.com", t.host} {
					err := t.makeCapability(api.CapabilityCreate{ID: "openai/" + t.name(Provider), Methods: []string{"GET"}, Paths: []string{"/"}, Host: h})
					t.denied("a capability to "+h, err, refusals...)
				}
			},
			Twin: func(t *T) {
				id := t.name(Provider)
				if err := t.operate("POST", api.RouteCredentials, api.CredentialCreate{ID: id, Provider: "openai", SecretRefs: map[string]string{"": t.pinned("OPENAI_API_KEY")}, Scope: pinnedScope}, nil); err != nil {
					t.Errorf("twin: another credential of the provider's own: %v", err)
					return
				}
				t.defers(func() { _ = t.operate("DELETE", api.RouteCredentials+"/"+id, nil, nil) })
				t.twins++
			},
		},
		{
			ID: "tenant-hosts", Class: "destination", Title: "a rented host of a provider that gives each account one: with an end of the attacker's, another's tenant, after a credential was deleted",
			Harm: "Anyone can rent a host there, and would be sent the key of somebody else's.",
			Run: func(t *T) {
				const shop = "one-store.myshopify.com"
				ref, id := t.pinned("SHOPIFY_ADMIN_TOKEN"), t.name(Provider)
				create := func(host string) error {
					return t.operate("POST", api.RouteCredentials, api.CredentialCreate{ID: id, Provider: "shopify", SecretRefs: map[string]string{"": ref}, Hosts: []string{host}, Scope: pinnedScope}, nil)
				}
				for _, h := range []string{"evil.test", "myshopify.com", "one-store.myshopify.com.evil.test", "a.b.myshopify.com", "evil.test#.myshopify.com", "evil.test/.myshopify.com", "one_store.myshopify.com", "one-store.myshopify.com.", "ONE-STORE.myshopify.com", "one-store.myshopify.com:8443", "{shop}.myshopify.com", "*.myshopify.com", "-a.myshopify.com", "127.0.0.1", "localhost"} {
					t.denied("first of all to "+h, create(h), refusals...)
				}
				t.must(create(shop))
				t.must(t.operate("DELETE", api.RouteCredentials+"/"+id, nil, nil))
				for _, h := range []string{"two-store.myshopify.com", "one-stor.myshopify.com"} {
					t.denied("again, to "+h, create(h), refusals...)
				}
			},
			Twin: func(t *T) {
				id := t.name(Provider)
				err := t.operate("POST", api.RouteCredentials, api.CredentialCreate{ID: id, Provider: "shopify", SecretRefs: map[string]string{"": t.pinned("SHOPIFY_ADMIN_TOKEN")}, Hosts: []string{"one-store.myshopify.com"}, Scope: pinnedScope}, nil)
				if err != nil {
					t.Errorf("twin: again, to the same shop: %v", err)
					return
				}
				t.twins++
			},
		},
		{
			ID: "claimed-names", Class: "destination", Title: "a secret named like the registry's, in another case, with blanks, invisible or look-alike letters, or so as an alias",
			Harm: "A key would be stored under a name that looks pinned and is not.",
			Run: func(t *T) {
				for _, n := range []string{"github_token", "Github_Token", "GITHUB_TOKEN ", " GITHUB_TOKEN", "GITHUB_TOKEN\n", "GITHUB TOKEN", "GITHUB-TOKEN", "GITHUB\u200b_TOKEN", "G\u0406THUB_TOKEN", "GITHUB_TO\u212aEN", "\uff27ITHUB_TOKEN", "GITHUB_TOKEN\x00", "g\u0131thub_token", "GITHUB__TOKEN", "GITHUBTOKEN"} {
					for _, alias := range []bool{false, true} {
						t.variants++
						what := fmt.Sprintf("name %+q", n)
						body := map[string]any{"name": n, "value": t.newDecoy(), "scope": "workspace:" + t.name("w")}
						if alias {
							what = fmt.Sprintf("alias %+q", n)
							body["name"], body["aliases"] = t.name("plain"), []string{n}
						}
						var made api.Secret
						switch err := t.operate("POST", api.RouteSecrets, body, &made); {
						case err != nil && (codeOf(err) == api.InvalidRequest || codeOf(err) == api.PolicyViolation || codeOf(err) == api.AlreadyExists):
							t.came("refused: " + string(codeOf(err)))
						case err != nil:
							t.Errorf("%s: %v", what, err)
						case made.PinnedProvider != "github":
							t.Errorf("%s: it was stored, and is not pinned to github", what)
						default:
							t.came("pinned")
						}
						if made.ID != "" {
							t.must(t.operate("DELETE", api.RouteSecrets+"/"+made.ID, nil, nil))
						}
					}
				}
			},
			Twin: func(t *T) {
				var made api.Secret
				err := t.operate("POST", api.RouteSecrets, map[string]any{"name": t.name("my-own-key"), "value": t.newDecoy(), "scope": "global"}, &made)
				if err != nil || made.PinnedProvider != "" {
					t.Errorf("twin: another name: %v, pinned to %q", err, made.PinnedProvider)
					return
				}
				t.twins++
			},
		},
	}
}

// noHosts has the operator's credentials for these hosts refused.
func (t *T) noHosts(what string, hosts []string, codes ...api.Code) {
	id, err := t.storeSecret(what, t.newDecoy(), "")
	t.must(err)
	for _, h := range hosts {
		t.denied(fmt.Sprintf("host %+q", h), t.tryHost(id, h), codes...)
	}
}

// tryHost makes a credential for a host, with exceptions for the ports that
// its spellings could mean.
func (t *T) tryHost(secret, host string) error {
	r := t.toHost(secret, host)
	r.AllowPorts = []int{int(t.up.Addr().Port()), 443, 8443}
	return t.makeCredential(r)
}

// toHost is a credential of a provider of its own, without any exception.
func (t *T) toHost(secret, host string) api.CredentialCreate {
	name := t.name(Provider)
	return api.CredentialCreate{
		ID: name, Provider: name, SecretRefs: map[string]string{"": secret}, Auth: &api.AuthSpec{Type: "header"}, Hosts: []string{host},
	}
}

// reachable is a twin: a credential that leads to the upstream by the
// operator's exceptions, under its name and its usual address.
func reachable(t *T) {
	for _, host := range []string{t.host, t.up.Addr().String()} {
		_, capability, decoy := t.credential(func(r *api.CredentialCreate) {
			r.Hosts, r.CAPEM = []string{host}, string(t.up.CAPEM())
			r.AllowPrivateNetwork, r.AllowPorts = true, []int{int(t.up.Addr().Port())}
		})
		t.passes("host "+host, call{capability: capability, method: "GET", path: "/v1/below/x", host: host, auth: "Authorization: Bearer " + decoy})
	}
}

// failed makes a call that is let through by policy and has to end before
// anything of it is sent. connections is how many it may make to the usual
// upstream; -1: any number.
func (t *T) failed(what string, c call, connections int, code api.Code) {
	t.variants++
	before := t.up.Connections()
	a := t.Stand.call(c)
	t.noLeak(what, a)
	t.nothingSent(what)
	if a.code != code {
		t.Errorf("%s: status %d %q %v, want %s", what, a.status, a.code, a.err, code)
	}
	if n := t.up.Connections() - before; connections >= 0 && n > connections {
		t.Errorf("%s: %d connections were made", what, n)
	}
	t.came("not sent: " + string(code))
}

// pinnedScope keeps decoys that the registry claims apart from the rest.
const pinnedScope = "workspace:" + Provider

// pinned is a decoy of a name that the registry claims, stored once.
func (t *T) pinned(name string) (ref string) {
	var made api.Secret
	err := t.operate("POST", api.RouteSecrets, map[string]string{"name": name, "value": t.newDecoy(), "scope": pinnedScope}, &made)
	if codeOf(err) != api.AlreadyExists {
		t.must(err)
		return "vault:secret:" + made.ID
	}
	var list api.SecretList
	t.must(t.operate("GET", api.RouteSecrets, nil, &list))
	for _, s := range list.Secrets {
		if s.Name == name && s.Scope == pinnedScope {
			return "vault:secret:" + s.ID
		}
	}
	t.Fatalf("the secret %s is nowhere", name)
	return ""
}

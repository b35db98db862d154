package attack

import (
	"fmt"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/strictjson"
)

// maxInstalled is how many capabilities of an installation are attacked.
const maxInstalled = 60

func installationAttacks() []Attack {
	return []Attack{{
		ID: "configured-capabilities", Class: "installation", Title: "each capability that is ready in this installation, with its own configuration: other hosts, paths, methods, credentials and headers than its own",
		Harm: "What was configured here would let through what its entry forbids.",
		Run:  configured,
		Twin: func(t *T) { t.passes("a call", t.honest()) },
	}}
}

// configured attacks what was copied from an installation. Nothing of it may
// be sent, since its hosts are real ones: each request is first explained,
// which sends nothing, and made only if the explanation says that it would be
// refused.
func configured(t *T) {
	var list api.CapabilityList
	t.must(t.operate("GET", api.RouteCapabilities+"?show=usable", nil, &list))
	tried := 0
	for _, c := range list.Capabilities {
		own := strings.HasPrefix(c.ID, Provider)
		if !c.Ready || own && tried > 0 || tried == maxInstalled || len(c.Methods) == 0 {
			continue
		}
		tried++
		method := c.Methods[0]
		base := call{capability: c.ID, method: method, path: "/"}
		for what, v := range map[string]call{
			"another host":            base.to("https://evil.test/"),
			"out of its path":         base.to("/../../etc/passwd"),
			"an escaped way out":      base.to("/%2e%2e/%2e%2e/admin"),
			"a path that nobody has":  base.to("/aivault-attack/no-such-path"),
			"a key of the caller's":   base.saying("Authorization", "Bearer mine"),
			"another host's header":   base.saying("Host", "evil.test"),
			"a forwarded host":        base.saying("X-Forwarded-Host", "evil.test"),
			"a method that is none":   base.with(func(c *call) { c.method = "TRACE" }),
			"a credential of another": base.with(func(c *call) { c.credential = "no-such-credential" }),
			"a field for the host":    base.with(func(c *call) { c.more = `,"host":"evil.test"` }),
			"a line end":              base.saying("X-A", "1\r\nHost: evil.test"),
		} {
			t.wouldBeRefused(fmt.Sprintf("%s, %s", c.ID, what), v)
		}
	}
}

// wouldBeRefused makes a call that has to be refused, if an explanation of it
// says that it is.
func (t *T) wouldBeRefused(what string, c call) {
	e := t.exchange(t.agent, post(api.RouteExplain, "application/json", c.envelope()))
	var said api.Explanation
	switch {
	case e.code != "": // not even explained
	case e.err != nil || strictjson.Unmarshal(e.body, &said) != nil:
		t.Errorf("%s: no explanation: status %d %v", what, e.status, e.err)
		return
	case said.Allowed:
		t.variants++
		t.Errorf("%s: the call would be let through; it was not made", what)
		return
	}
	t.refused(what, c)
}

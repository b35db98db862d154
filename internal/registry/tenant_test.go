package registry

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// templated returns a provider with hosts, parameters and patterns of its own.
func templated(t testing.TB, hosts, params, patterns string) *Provider {
	t.Helper()
	p, err := Parse(withHosts(hosts, params, patterns))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func withHosts(hosts, params, patterns string) []byte {
	return []byte(`{"schemaVersion":1,"provider":"acme","title":"Acme","category":"x","docs":"https://acme.test","getKey":{"text":"Ask.","url":"https://acme.test"},
	  "secrets":[{"name":"ACME_KEY","field":"secret"}],"hosts":` + hosts + `,` + params + patterns + `
	  "logins":[{"id":"key","auth":{"type":"header","headerName":"X-Acme-Key","valueTemplate":"{{secret}}"}}],
	  "capabilities":[{"id":"acme/x","description":"X.","access":"read","methods":["GET"],"paths":["/"]}]}`)
}

func shops(t testing.TB) *Provider {
	return templated(t, `["{shop}.myshopify.com"]`,
		`"hostParams":[{"name":"shop","kind":"tenant","pattern":"^[a-z0-9][a-z0-9-]*$"}],`, `"hostPatterns":["*.myshopify.com"],`)
}

func sites(t testing.TB) *Provider {
	return templated(t, `["api.{site}","logs.{site}"]`,
		`"hostParams":[{"name":"site","kind":"region","values":["acme.com","eu1.acme.com","acme.eu"],"default":"acme.com"}],`,
		`"hostPatterns":["*.acme.com","*.acme.eu"],`)
}

func TestMatchHost(t *testing.T) {
	long := strings.Repeat("a", 63)
	for host, want := range map[string]string{
		"my-store.myshopify.com":           "my-store",
		"9.myshopify.com":                  "9",
		long + ".myshopify.com":            long,
		long + "a.myshopify.com":           "",
		"myshopify.com":                    "",
		".myshopify.com":                   "",
		"a.b.myshopify.com":                "",
		"evil-myshopify.com":               "",
		"evilmyshopify.com":                "",
		"My-store.myshopify.com":           "",
		"my-store.myshopify.com.":          "",
		"my-store.myshopify.com.evil.test": "",
		"my-store.myshopify.com:443":       "",
		"my-store.myshopify.com/":          "",
		"my-store.myshopify.com\n":         "",
		"user@my-store.myshopify.com":      "",
		"-a.myshopify.com":                 "",
		"a-.myshopify.com":                 "",
		"xn--a.myshopify.com":              "",
		"a_b.myshopify.com":                "",
		"ä.myshopify.com":                  "",
		"{shop}.myshopify.com":             "",
		"*.myshopify.com":                  "",
		"":                                 "",
		"127.0.0.1":                        "",
	} {
		params, ok := shops(t).MatchHost(host)
		if ok != (want != "") || ok && !maps.Equal(params, map[string]string{"shop": want}) {
			t.Errorf("%q matches %v, %v", host, params, ok)
		}
	}
	for host, want := range map[string]string{
		"api.acme.com": "acme.com", "logs.eu1.acme.com": "eu1.acme.com", "api.acme.eu": "acme.eu",
		"api.us2.acme.com": "", "acme.com": "", "x.api.acme.com": "", "api.acme.com.acme.com": "", "api.acme.test": "",
	} {
		params, ok := sites(t).MatchHost(host)
		if ok != (want != "") || ok && !maps.Equal(params, map[string]string{"site": want}) {
			t.Errorf("%q matches %v, %v", host, params, ok)
		}
	}
}

// Hosts of several parameters, of parameters beside hosts of everyone's, and
// of such as more than one choice of parameters could give.
func TestMatchHostOfSeveral(t *testing.T) {
	two := templated(t, `["{org}.{site}","{org}.up.{site}","acme.eu1.acme.com"]`,
		`"hostParams":[{"name":"org","kind":"tenant","pattern":"^a[a-z]*|z$"},{"name":"site","kind":"region","values":["acme.com","eu1.acme.com"]}],`,
		`"hostPatterns":["*.acme.com"],`)
	unclear := templated(t, `["{a}-{b}.acme.com"]`,
		`"hostParams":[{"name":"a","kind":"tenant","pattern":"^[a-z-]+$"},{"name":"b","kind":"tenant","pattern":"^[a-z-]+$"}],`, `"hostPatterns":["*.acme.com"],`)
	same := templated(t, `["{a}.{a}.acme.com"]`, `"hostParams":[{"name":"a","kind":"tenant","pattern":"^[a-z]+$"}],`, `"hostPatterns":["*.acme.com"],`)
	part := templated(t, `["{a}.{b}.acme.com","{a}.acme.eu"]`,
		`"hostParams":[{"name":"a","kind":"tenant","pattern":"^[a-z]+$"},{"name":"b","kind":"tenant","pattern":"^[a-z]+$"}],`, `"hostPatterns":["*.acme.com","*.acme.eu"],`)
	for _, c := range []struct {
		p    *Provider
		host string
		want string
	}{
		{two, "abc.acme.com", "org=abc site=acme.com"},
		{two, "abc.up.eu1.acme.com", "org=abc site=eu1.acme.com"},
		{two, "abc.eu1.acme.com", "org=abc site=eu1.acme.com"},
		{two, "z.acme.com", "org=z site=acme.com"},
		{two, "az.acme.com", "org=az site=acme.com"},
		{two, "bz.acme.com", ""}, // each half of an alternative is anchored
		{two, "ab1.acme.com", ""},
		{two, "acme.eu1.acme.com", ""},
		{two, "acme.acme.com", "org=acme site=acme.com"},
		{unclear, "x-y.acme.com", "a=x b=y"},
		{unclear, "x-y-z.acme.com", ""},
		{same, "x.x.acme.com", "a=x"},
		{same, "x.y.acme.com", ""},
		{part, "x.y.acme.com", "a=x b=y"},
		{part, "x.acme.eu", ""}, // says one of the two
	} {
		var got []string
		params, _ := c.p.MatchHost(c.host)
		for _, k := range slices.Sorted(maps.Keys(params)) {
			got = append(got, k+"="+params[k])
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s matches %v, want %s", c.host, got, c.want)
		}
	}
	if _, ok := two.FillHost("{org}.{site}", map[string]string{"org": "acme", "site": "eu1.acme.com"}); ok {
		t.Error("filling gave a host of everyone's")
	}
	if got := two.Tenant(map[string]string{"site": "acme.com", "org": "a"}); got != "org=a" {
		t.Errorf("tenant %q", got)
	}
	if got := unclear.Tenant(map[string]string{"b": "y", "a": "x", "c": "z"}); got != "a=x,b=y" {
		t.Errorf("tenant %q", got)
	}
	if two.Defaults() != nil || shops(t).Defaults() != nil {
		t.Error("a tenant has a default")
	}
	if d := sites(t).Defaults(); !maps.Equal(d, map[string]string{"site": "acme.com"}) {
		t.Error(d)
	}
}

// A value stays within a label, whatever the pattern says; and no host is
// matched or filled outside hostPatterns, even of an entry that nobody checked.
func TestHostsStayWithin(t *testing.T) {
	wide := templated(t, `["{org}.acme.com"]`, `"hostParams":[{"name":"org","kind":"tenant","pattern":"^.+$"}],`, `"hostPatterns":["*.acme.com"],`)
	for _, value := range []string{"a.b", "A", "a_b", "a/b", "", "a:b", "*", "ä"} {
		if params, ok := wide.MatchHost(value + ".acme.com"); ok {
			t.Errorf("%q matches %v", value, params)
		}
		if filled, ok := wide.FillHost("{org}.acme.com", map[string]string{"org": value}); ok {
			t.Errorf("%q fills to %q", value, filled)
		}
	}
	if _, ok := wide.MatchHost("a.acme.com"); !ok {
		t.Error("a.acme.com does not match")
	}
	wide.HostPatterns = []string{"*.acme.eu"}
	if params, ok := wide.MatchHost("a.acme.com"); ok {
		t.Errorf("matches %v outside hostPatterns", params)
	}
	if filled, ok := wide.FillHost("{org}.acme.com", map[string]string{"org": "a"}); ok {
		t.Errorf("fills to %s outside hostPatterns", filled)
	}
}

// A region that the host does not say has its default.
func TestMatchHostDefault(t *testing.T) {
	p := templated(t, `["{org}.acme.com","{org}.{zone}.acme.com"]`,
		`"hostParams":[{"name":"org","kind":"tenant","pattern":"^[a-z]+$"},{"name":"zone","kind":"region","values":["eu","us"],"default":"us"}],`,
		`"hostPatterns":["*.acme.com"],`)
	for host, zone := range map[string]string{"x.acme.com": "us", "x.eu.acme.com": "eu", "x.us.acme.com": "us"} {
		if params, ok := p.MatchHost(host); !ok || !maps.Equal(params, map[string]string{"org": "x", "zone": zone}) {
			t.Errorf("%s matches %v", host, params)
		}
	}
	if _, ok := p.MatchHost("x.ap.acme.com"); ok {
		t.Error("an unknown zone")
	}
}

func TestFillHost(t *testing.T) {
	for _, c := range []struct {
		p      *Provider
		host   string
		params map[string]string
		want   string
	}{
		{shops(t), "{shop}.myshopify.com", map[string]string{"shop": "my-store"}, "my-store.myshopify.com"},
		{shops(t), "{shop}.myshopify.com", nil, ""},
		{shops(t), "{shop}.myshopify.com", map[string]string{"shop": ""}, ""},
		{shops(t), "{shop}.myshopify.com", map[string]string{"shop": "a.b"}, ""},
		{shops(t), "{shop}.myshopify.com", map[string]string{"shop": "A"}, ""},
		{shops(t), "{shop}.myshopify.com", map[string]string{"shop": "a-"}, ""},
		{shops(t), "{shop}.myshopify.com", map[string]string{"shop": "evil.test/"}, ""},
		{shops(t), "{shop}.myshopify.com", map[string]string{"shop": "{shop}"}, ""},
		{shops(t), "{shop}.myshopify.com", map[string]string{"shop": "a", "site": "b"}, ""},
		{shops(t), "{shop}.evil.test", map[string]string{"shop": "a"}, ""},
		{shops(t), "{shop", map[string]string{"shop": "a"}, ""},
		{shops(t), "evil.test", map[string]string{"shop": "a"}, ""},
		{shops(t), "", map[string]string{"shop": "a"}, ""},
		{sites(t), "api.{site}", map[string]string{"site": "eu1.acme.com"}, "api.eu1.acme.com"},
		{sites(t), "logs.{site}", map[string]string{"site": "acme.eu"}, "logs.acme.eu"},
		{sites(t), "api.{site}", map[string]string{"site": "us2.acme.com"}, ""},
		{sites(t), "api.{site}", map[string]string{"site": "evil.test"}, ""},
	} {
		filled, ok := c.p.FillHost(c.host, c.params)
		if filled != c.want || ok != (c.want != "") {
			t.Errorf("%s with %v is %q, %v", c.host, c.params, filled, ok)
		}
	}
	plain := templated(t, `["api.acme.com"]`, "", "")
	if filled, ok := plain.FillHost("api.acme.com", nil); !ok || filled != "api.acme.com" {
		t.Error("a host without parameters")
	}
	if _, ok := plain.FillHost("api.acme.com", map[string]string{"x": "y"}); ok {
		t.Error("a parameter that there is not")
	}
	if d := plain.Defaults(); d == nil || len(d) != 0 {
		t.Error(d)
	}
	if _, ok := plain.MatchHost("api.acme.com"); ok {
		t.Error("matches a host without parameters")
	}
}

func selfHosted(t testing.TB) *Provider {
	return templated(t, `["{host}"]`, `"selfHosted":true,"hostParams":[{"name":"host","kind":"tenant"}],`, "")
}

func TestSelfHosted(t *testing.T) {
	p := selfHosted(t)
	for host, want := range map[string]string{
		"hass.local": "hass.local", "hass": "hass", "hass.local:8123": "hass.local:8123", "10.0.0.7:8123": "10.0.0.7:8123",
		"10.0.0.7": "10.0.0.7", "fd00::7": "fd00::7", "[fd00::7]": "fd00::7", "[fd00::7]:8123": "[fd00::7]:8123",
		"": "", "HASS": "", "hass.": "", "hass:0": "", "hass:08123": "", "hass:65536": "", "hass:": "", "hass:+1": "", ":8123": "",
		"http://hass": "", "hass/x": "", "a@hass": "", "127.1": "", "0x7f.1": "", "010.0.0.7": "", "::ffff:10.0.0.7": "", "fe80::1%eth0": "",
		"FD00::7": "", "[hass]:1": "", "[fd00::7": "", "[fd00::7]x": "", "fd00::7:": "", "a,b": "", "host=a": "",
	} {
		params, ok := p.MatchHost(host)
		if ok != (want != "") || ok && !maps.Equal(params, map[string]string{"host": want}) {
			t.Errorf("%q matches %v", host, params)
			continue
		}
		if !ok {
			continue
		}
		if filled, ok := p.FillHost("{host}", params); !ok || filled != want {
			t.Errorf("%q fills to %q", host, filled)
		}
		if got := p.Tenant(params); got != "host="+want {
			t.Errorf("tenant %q", got)
		}
	}
	for _, bad := range []map[string]string{nil, {"host": ""}, {"host": "[fd00::7]"}, {"host": "a/b"}, {"host": "a", "x": "b"}, {"x": "b"}} {
		if filled, ok := p.FillHost("{host}", bad); ok {
			t.Errorf("%v gives %q", bad, filled)
		}
	}
	if filled, ok := p.FillHost("{host}.evil.test", map[string]string{"host": "a"}); ok {
		t.Error(filled)
	}
	if p.Defaults() != nil {
		t.Error("a self-hosted provider has a default host")
	}
	for _, c := range [][3]string{
		{`["{host}.acme.com"]`, `"selfHosted":true,"hostParams":[{"name":"host","kind":"tenant"}],`, ``},
		{`["{host}","api.acme.com"]`, `"selfHosted":true,"hostParams":[{"name":"host","kind":"tenant"}],`, ``},
		{`["{site}"]`, `"selfHosted":true,"hostParams":[{"name":"site","kind":"tenant"}],`, ``},
		{`["{host}"]`, `"selfHosted":true,"hostParams":[{"name":"host","kind":"region"}],`, ``},
		{`["{host}"]`, `"selfHosted":true,"hostParams":[{"name":"host","kind":"tenant","pattern":"^a$"}],`, ``},
		{`["{host}"]`, `"selfHosted":true,"hostParams":[{"name":"host","kind":"tenant"}],`, `"hostPatterns":["*.acme.com"],`},
		{`["api.acme.com"]`, `"selfHosted":true,`, ``},
		{`["{host}"]`, `"hostParams":[{"name":"host","kind":"tenant","pattern":"^a$"}],`, `"hostPatterns":["*.acme.com"],`},
		{`["api.{site}"]`, `"hostParams":[{"name":"site","kind":"region","values":["com","acme.eu"]}],`, `"hostPatterns":["*.acme.eu"],`},
		{`["api.{site}"]`, `"hostParams":[{"name":"site","kind":"region","pattern":"^acme$"}],`, `"hostPatterns":["*.acme.eu"],`},
		{`["api.{site}"]`, `"hostParams":[{"name":"site","kind":"region","values":["acme.com","acme.eu"]}],`, `"hostPatterns":["*.acme.eu"],`},
		{`["api{site}"]`, `"hostParams":[{"name":"site","kind":"region","values":["acme.eu"]}],`, `"hostPatterns":["*.acme.eu"],`},
		{`["{site}"]`, `"hostParams":[{"name":"site","kind":"region","values":["api.acme.eu"]}],`, `"hostPatterns":["*.acme.eu"],`},
	} {
		if _, err := Parse(withHosts(c[0], c[1], c[2])); err == nil {
			t.Errorf("Parse accepts %v", c)
		}
	}
}

// Whatever can be filled matches with the very parameters it was filled with,
// in every provider of the registry and for every host with parameters; and
// the host is within hostPatterns.
func TestFilledHostsMatch(t *testing.T) {
	all := []*Provider{shops(t), sites(t), selfHosted(t)}
	r := load(t)
	for _, id := range r.Providers() {
		if p := r.Provider(id); len(p.HostParams) > 0 {
			all = append(all, p)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SampledFrom(all).Draw(t, "provider")
		params := map[string]string{}
		for i := range p.HostParams {
			h := &p.HostParams[i]
			var values *rapid.Generator[string]
			switch {
			case p.SelfHosted:
				values = rapid.StringMatching(`[a-z0-9.:\[\]-]{1,12}`)
			case len(h.Values) > 0:
				values = rapid.SampledFrom(h.Values)
			default:
				values = rapid.OneOf(rapid.StringMatching(h.Pattern), rapid.StringMatching(`[a-zA-Z0-9.-]{0,70}`))
			}
			params[h.Name] = values.Draw(t, h.Name)
		}
		host := rapid.SampledFrom(slices.Collect(p.templates)).Draw(t, "host")
		filled, ok := p.FillHost(host, params)
		if !ok || !strings.Contains(host, "{") {
			return
		}
		if !p.SelfHosted && !p.covers(filled) {
			t.Fatalf("%s left %v: %s", p.ID, p.HostPatterns, filled)
		}
		if back, ok := p.MatchHost(filled); !ok || !maps.Equal(back, params) {
			t.Fatalf("%s matches %v, filled with %v", filled, back, params)
		}
	})
}

// Whatever matches is a valid host within hostPatterns that filling gives
// back.
func FuzzMatchHost(f *testing.F) {
	for _, s := range []string{"my-store.myshopify.com", "api.eu1.acme.com", "x.y", "[::1]:80", "a.b.myshopify.com", "myshopify.com"} {
		f.Add(s)
	}
	all := []*Provider{shops(f), sites(f), selfHosted(f)}
	r := load(f)
	for _, id := range r.Providers() {
		all = append(all, r.Provider(id))
	}
	f.Fuzz(func(t *testing.T, host string) {
		for _, p := range all {
			params, ok := p.MatchHost(host)
			if !ok {
				continue
			}
			if !p.SelfHosted && (ValidHost(host) != nil || !p.covers(host)) {
				t.Fatalf("%s: %+q matches %v", p.ID, host, params)
			}
			found := false
			for h := range p.templates {
				filled, ok := p.FillHost(h, params)
				if ok && strings.Contains(h, "{") {
					again, ok := p.MatchHost(filled)
					if !ok || !maps.Equal(again, params) {
						t.Fatalf("%s: %+q gives %v, and %+q gives %v", p.ID, host, params, filled, again)
					}
					found = found || filled == host || p.SelfHosted
				}
			}
			if !found {
				t.Fatalf("%s: %+q matches %v, and nothing fills to it", p.ID, host, params)
			}
		}
	})
}

// The registry's own tenants: a host of theirs works, and fills all hosts;
// the bare suffix, a name below a tenant's, one that only looks alike and one
// that goes on do not.
func TestTenantsOfTheRegistry(t *testing.T) {
	r := load(t)
	checked := map[string]bool{}
	for _, c := range []struct{ id, host, tenant, filled string }{
		{"activecampaign", "acme.api-us1.com", "account=acme", "acme.api-us1.com"},
		{"assemblyai", "api.eu.assemblyai.com", "", "llm-gateway.eu.assemblyai.com"},
		{"confluence", "acme.atlassian.net", "site=acme", "acme.atlassian.net"},
		{"dashscope", "dashscope-us.aliyuncs.com", "", "dashscope-us.aliyuncs.com"},
		{"google-vertex", "europe-west4-aiplatform.googleapis.com", "", "europe-west4-aiplatform.googleapis.com"},
		{"langfuse", "cloud.langfuse.com", "", "cloud.langfuse.com"},
		{"launchdarkly", "app.eu.launchdarkly.com", "", "app.eu.launchdarkly.com"},
		{"opsgenie", "api.eu.opsgenie.com", "", "api.eu.opsgenie.com"},
		{"pagerduty", "api.eu.pagerduty.com", "", "api.eu.pagerduty.com"},
		{"smartsheet", "api.smartsheet.eu", "", "api.smartsheet.eu"},
		{"snyk", "api.eu.snyk.io", "", "api.eu.snyk.io"},
		{"together", "api.together.xyz", "", "api.together.xyz"},
		{"azure-openai", "acme.openai.azure.com", "resource=acme", "acme.openai.azure.com"},
		{"contentful", "api.eu.contentful.com", "", "api.eu.contentful.com"},
		{"customerio", "api-eu.customer.io", "", "api-eu.customer.io"},
		{"datadog", "api.us5.datadoghq.com", "", "http-intake.logs.us5.datadoghq.com"},
		{"freshdesk", "acme.freshdesk.com", "domain=acme", "acme.freshdesk.com"},
		{"ghost", "acme.ghost.io", "host=acme.ghost.io", "acme.ghost.io"},
		{"grafana", "acme.grafana.net", "stack=acme", "acme.grafana.net"},
		{"home-assistant", "homeassistant.local:8123", "host=homeassistant.local:8123", "homeassistant.local:8123"},
		{"jira", "acme.atlassian.net", "site=acme", "acme.atlassian.net"},
		{"mailchimp", "us21.api.mailchimp.com", "", "us21.api.mailchimp.com"},
		{"mailjet", "api.us.mailjet.com", "", "api.us.mailjet.com"},
		{"mastodon", "mastodon.social", "host=mastodon.social", "mastodon.social"},
		{"mattermost", "chat.example.com", "host=chat.example.com", "chat.example.com"},
		{"pipedrive", "acme.pipedrive.com", "company=acme", "acme.pipedrive.com"},
		{"salesforce", "acme.my.salesforce.com", "mydomain=acme", "acme.my.salesforce.com"},
		{"sanity", "zp7mbokg.api.sanity.io", "project_id=zp7mbokg", "api.sanity.io"},
		{"sendgrid", "api.eu.sendgrid.com", "", "api.eu.sendgrid.com"},
		{"shopify", "my-store.myshopify.com", "shop=my-store", "my-store.myshopify.com"},
		{"supabase", "abcdefghijklmnopqrst.supabase.co", "project_ref=abcdefghijklmnopqrst", "abcdefghijklmnopqrst.supabase.co"},
		{"wordpress", "blog.example.com", "host=blog.example.com", "blog.example.com"},
		{"zendesk", "acme.zendesk.com", "subdomain=acme", "acme.zendesk.com"},
		{"deepgram", "api.eu.deepgram.com", "", "agent.eu.deepgram.com"},
		{"deepl", "api.deepl.com", "", "api.deepl.com"},
		{"intercom", "api.eu.intercom.io", "", "api.eu.intercom.io"},
		{"mailgun", "api.eu.mailgun.net", "", "api.eu.mailgun.net"},
		{"plaid", "sandbox.plaid.com", "", "sandbox.plaid.com"},
		{"quickbooks", "sandbox-quickbooks.api.intuit.com", "", "sandbox-quickbooks.api.intuit.com"},
		{"square", "connect.squareupsandbox.com", "", "connect.squareupsandbox.com"},
		{"algolia", "djnvgs47dk-dsn.algolia.net", "app=djnvgs47dk", "djnvgs47dk.algolia.net"},
		{"aws", "s3.eu-west-1.amazonaws.com", "", "ce.us-east-1.amazonaws.com"},
		{"axiom", "eu-central-1.aws.edge.axiom.co", "", "eu-central-1.aws.edge.axiom.co"},
		{"databricks", "cust-success.cloud.databricks.com", "workspace=cust-success", "cust-success.cloud.databricks.com"},
		{"elasticsearch", "search.example.com:9200", "host=search.example.com:9200", "search.example.com:9200"},
		{"honeycomb", "api.eu1.honeycomb.io", "", "api.eu1.honeycomb.io"},
		{"langsmith", "api.smith.langchain.com", "", "api.smith.langchain.com"},
		{"meilisearch", "search.example.com:7700", "host=search.example.com:7700", "search.example.com:7700"},
		{"newrelic", "api.eu.newrelic.com", "", "api.eu.newrelic.com"},
		{"pinecone", "docs-example-4zo0ijk.svc.aped-4627-b74a.pinecone.io", "project=4zo0ijk", "docs-example-4zo0ijk.svc.aped-4627-b74a.pinecone.io"},
		{"posthog", "eu.posthog.com", "", "eu.i.posthog.com"},
		{"qdrant", "xyz.eu-central.aws.cloud.qdrant.io:6333", "host=xyz.eu-central.aws.cloud.qdrant.io:6333", "xyz.eu-central.aws.cloud.qdrant.io:6333"},
		{"sentry", "de.sentry.io", "", "de.sentry.io"},
		{"snowflake", "myorg-account123.snowflakecomputing.com", "account=myorg-account123", "myorg-account123.snowflakecomputing.com"},
		{"turso-db", "shop-acme.turso.io", "database=shop-acme", "shop-acme.turso.io"},
		{"typesense", "search.example.com:8108", "host=search.example.com:8108", "search.example.com:8108"},
		{"upstash-redis", "us1-merry-cat-32748.upstash.io", "endpoint=us1-merry-cat-32748", "us1-merry-cat-32748.upstash.io"},
		{"weaviate", "weaviate.example.com:8080", "host=weaviate.example.com:8080", "weaviate.example.com:8080"},
		{"zilliz", "milvus.example.com:19530", "host=milvus.example.com:19530", "milvus.example.com:19530"},
		{"zulip", "acme.zulipchat.com", "org=acme", "acme.zulipchat.com"},
		{"cloudinary", "api-eu.cloudinary.com", "", "api-eu.cloudinary.com"},
		{"n8n", "n8n.example.com:5678", "host=n8n.example.com:5678", "n8n.example.com:5678"},
		{"paddle", "sandbox-api.paddle.com", "", "sandbox-api.paddle.com"},
		{"typeform", "api.eu.typeform.com", "", "api.eu.typeform.com"},
		{"woocommerce", "shop.example.com", "host=shop.example.com", "shop.example.com"},
		{"mercury", "api-sandbox.mercury.com", "", "api-sandbox.mercury.com"},
		{"paypal", "api-m.sandbox.paypal.com", "", "api-m.sandbox.paypal.com"},
		{"polygon", "api.polygon.io", "", "api.polygon.io"},
		{"wise", "api.wise-sandbox.com", "", "api.wise-sandbox.com"},
		{"alchemy", "eth-mainnet.g.alchemy.com", "", "eth-mainnet.g.alchemy.com"},
		{"coingecko", "pro-api.coingecko.com", "", "pro-api.coingecko.com"},
		{"auth0", "acme.auth0.com", "tenant=acme", "acme.auth0.com"},
		{"jfrog", "acme.jfrog.io", "server=acme", "acme.jfrog.io"},
		{"okta", "acme.oktapreview.com", "org=acme", "acme.oktapreview.com"},
	} {
		p := r.Provider(c.id)
		checked[c.id] = true
		params, ok := p.MatchHost(c.host)
		if !ok {
			t.Errorf("%s is no host of %s", c.host, c.id)
			continue
		}
		if got := p.Tenant(params); got != c.tenant {
			t.Errorf("%s is tenant %q", c.host, got)
		}
		filled, ok := p.FillHost(p.Hosts[len(p.Hosts)-1], params)
		if !ok || filled != c.filled {
			t.Errorf("%s fills %s to %q", c.host, p.Hosts[len(p.Hosts)-1], filled)
		}
		if p.SelfHosted {
			continue
		}
		if owner, _ := r.HostProvider(c.host); owner == "" {
			t.Errorf("%s belongs to nobody", c.host)
		} else if _, too := r.Provider(owner).MatchHost(c.host); owner != c.id && !too { // some share their tenants' hosts
			t.Errorf("%s belongs to %q", c.host, owner)
		}
		_, suffix, _ := strings.Cut(c.host, ".")
		for _, bad := range []string{
			suffix, "." + suffix, "a." + c.host, c.host + ".", c.host + ".evil.test", c.host + ":443", strings.ToUpper(c.host),
			"evil-" + suffix, "evil" + suffix, "evil.test", c.host + "/", "*." + suffix, "a_b." + suffix, "-a." + suffix,
		} {
			if params, ok := p.MatchHost(bad); ok {
				t.Errorf("%s: %s matches %v", c.id, bad, params)
			}
		}
		if c.tenant != "" && p.Defaults() != nil {
			t.Errorf("%s has a default tenant", c.id)
		}
	}
	// A provider of tenants that is not above would go unchecked.
	for _, id := range r.Providers() {
		if len(r.Provider(id).HostParams) > 0 && !checked[id] {
			t.Errorf("%s has hosts with parameters, and is not above", id)
		}
	}
}

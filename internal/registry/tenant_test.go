package registry

import (
	"maps"
	"strings"
	"testing"
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

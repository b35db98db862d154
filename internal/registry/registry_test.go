package registry

import (
	"slices"
	"strings"
	"testing"
)

func load(t testing.TB) *Registry {
	t.Helper()
	r, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestLookups(t *testing.T) {
	r := load(t)
	ids := r.Providers()
	if !slices.IsSorted(ids) || len(ids) < 10 {
		t.Fatal(ids)
	}
	for _, id := range ids {
		p := r.Provider(id)
		for i := range p.Capabilities {
			c := &p.Capabilities[i]
			if gotP, gotC := r.Capability(c.ID); gotP != p || gotC != c {
				t.Errorf("%s leads to %v", c.ID, gotC)
			}
			if len(p.LoginsOf(c)) == 0 || len(p.HostsOf(c)) == 0 {
				t.Errorf("%s has no way to be called", c.ID)
			}
		}
	}
	if p, c := r.Capability("openai/none"); p != nil || c != nil || r.Provider("none") != nil {
		t.Error("found what is not there")
	}
	if h := r.Provider("openai").HostsOf(&Capability{}); !slices.Equal(h, []string{"api.openai.com"}) {
		t.Error(h)
	}
}

// What a provider needs for its first call: these are the names and shapes
// that people rely on.
func TestKnownProviders(t *testing.T) {
	r := load(t)
	for _, c := range []struct {
		id, secret, kind string
		fields           []string
	}{
		{"anthropic", "ANTHROPIC_API_KEY", "header", []string{"secret"}},
		{"cloudflare", "CF_API_TOKEN", "header", []string{"secret"}},
		{"datadog", "DATADOG_APP_KEY", "multi-header", []string{"api_key", "app_key"}},
		{"gemini", "GOOGLE_API_KEY", "header", []string{"secret"}},
		{"github", "GH_TOKEN", "header", []string{"secret"}},
		{"gitlab", "GITLAB_PAT", "header", []string{"secret"}},
		{"home-assistant", "HASS_TOKEN", "header", []string{"secret"}},
		{"jira", "ATLASSIAN_API_TOKEN", "basic", []string{"email", "token"}},
		{"openai", "OPENAI_API_KEY", "header", []string{"secret"}},
		{"shopify", "SHOPIFY_ACCESS_TOKEN", "header", []string{"secret"}},
		{"slack", "SLACK_BOT_TOKEN", "header", []string{"bot_token"}},
		{"stripe", "STRIPE_SECRET_KEY", "header", []string{"secret"}},
		{"telegram", "TELEGRAM_BOT_TOKEN", "path", []string{"secret"}},
		{"trello", "TRELLO_TOKEN", "header", []string{"key", "token"}},
		{"twilio", "TWILIO_AUTH_TOKEN", "basic", []string{"api_key", "api_secret"}},
		{"youtube", "YOUTUBE_API_KEY", "header", []string{"secret"}},
	} {
		claim, ok := r.Claims(c.secret)
		if !ok || claim.Provider != c.id {
			t.Errorf("%s is claimed by %q", c.secret, claim.Provider)
			continue
		}
		l := &r.Provider(c.id).Logins[0]
		if l.Auth.Type != c.kind || !slices.Equal(l.Fields(), c.fields) || l.NotYet != "" || l.Dedicated {
			t.Errorf("%s: first login %s %v", c.id, l.Auth.Type, l.Fields())
		}
	}
	if !r.Provider("twilio").Secrets[2].Public {
		t.Error("the account SID is an identifier")
	}
}

func TestClaims(t *testing.T) {
	r := load(t)
	for name, want := range map[string]string{
		"OPENAI_API_KEY":                   "openai",
		"openai_api_key":                   "openai",
		" OPENAI_API_KEY ":                 "openai",
		"OpenAI Api Key":                   "openai",
		"OPENAI-API-KEY":                   "openai",
		"openai.api.key":                   "openai",
		"OPENAI_AP\u0130_KEY":              "openai", // capital I with a dot
		"\u041ePENAI_API_KEY":              "openai", // Cyrillic O
		"OP\u0415NAI_API_KEY":              "openai", // Cyrillic E
		"\u043epenai_\u0430pi_key":         "openai", // Cyrillic o, a
		"OPENAI_API_\u039aEY":              "openai", // Greek Kappa
		"OPE\u039dAI_API_KEY":              "openai", // Greek capital Nu, whose small letter looks like v
		"\u03a4RELLO_TOKEN":                "trello", // Greek Tau
		"\u13da\u13a2RIPE_API_KEY":         "stripe", // Cherokee
		"\ua4d6ITHUB_TOKEN":                "github", // Lisu
		"0PENAI_API_KEY":                   "openai", // zero
		"OPENA1_AP1_KEY":                   "openai", // ones
		"OPENAl_APl_KEY":                   "openai", // small l
		"\uff2fPENAI_API_KEY":              "openai", // full width
		"O\u200bPENAI_API_KEY":             "openai", // zero width space
		"OPENAI_API_KEY\u202e":             "openai", // right-to-left override
		"\U0001d40eP\U0001d404NAI_API_KEY": "openai", // mathematical bold
		"O\u0301PENAI_API_KEY":             "openai", // combining accent
		"\u13a0\u13aa":                     "",
		"GH_TOKEN":                         "github",
		"gh token":                         "github",
		"GITHUB_PAT":                       "github",
		"CLAUDE_API_KEY":                   "anthropic",
		"OPENAI_API_KEY_2":                 "",
		"MY_OPENAI_API_KEY":                "",
		"OPENAI":                           "",
		"":                                 "",
		"\u200b":                           "",
	} {
		got, ok := r.Claims(name)
		if ok != (want != "") || got.Provider != want {
			t.Errorf("%+q is claimed by %q, want %q", name, got.Provider, want)
		}
	}
}

// Folding twice changes nothing, and of ASCII only small letters and digits
// are left.
func FuzzFoldName(f *testing.F) {
	for _, s := range []string{"OPENAI_API_KEY", " a\u0430\u0391 ", "\u00df\u017f\u0130\u0131", "\ufb03", "", "\xff", "\xf6\u0206"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once := FoldName(s)
		if twice := FoldName(once); twice != once {
			t.Fatalf("%+q folds to %+q and then to %+q", s, once, twice)
		}
		for _, c := range once {
			if c < 0x80 && !('a' <= c && c <= 'z' || '2' <= c && c <= '9') || c == 'l' {
				t.Fatalf("%+q folds to %+q", s, once)
			}
		}
	})
}

func TestLookAlikePairs(t *testing.T) {
	for _, p := range [][2]string{{cyrillic, cyrillicL}, {greek, greekL}, {others, othersL}, {latin, latinL}} {
		if n := len([]rune(p[0])); n != len(p[1]) {
			t.Errorf("%d letters beside %d: %s", n, len(p[1]), p[1])
		}
	}
}

func TestIsAuthHeader(t *testing.T) {
	r := load(t)
	for name, want := range map[string]bool{
		"authorization": true, "x-api-key": true, "x-goog-api-key": true, "chatgpt-account-id": true,
		"content-type": false, "anthropic-version": false, "openai-organization": false, "": false,
	} {
		if r.IsAuthHeader(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

func TestHostProvider(t *testing.T) {
	p, err := Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{
		"api.acme.test": "acme", "API.acme.test": "acme", "api.acme.test:443": "acme", "api.acme.test.": "acme",
		"store.acme.test": "acme", "a.b.acme.test": "acme",
		"acme.test": "", ".acme.test": "", "evilacme.test": "", "api.acme.test.evil.test": "", "": "", "::1": "",
	} {
		if got, ok := r.HostProvider(host); got != want || ok != (want != "") {
			t.Errorf("%q belongs to %q, want %q", host, got, want)
		}
	}
	if id, _ := load(t).HostProvider("chatgpt.com"); id != "openai" {
		t.Errorf("chatgpt.com belongs to %q", id)
	}
}

func TestNewRefuses(t *testing.T) {
	parse := func(edits ...string) *Provider {
		p, err := Parse([]byte(strings.NewReplacer(edits...).Replace(good)))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	a, b := parse(), parse(`"acme"`, `"ecma"`, "acme/", "ecma/")
	if _, err := New(a, a); err == nil {
		t.Error("one provider twice")
	}
	if _, err := New(a, b); err == nil || !strings.Contains(err.Error(), "claim") {
		t.Errorf("two providers claim one name: %v", err)
	}
	b.Secrets[0].Name, b.Secrets[0].Aliases, b.Secrets[1].Name, b.Secrets[2].Name = "ECMA_KEY", nil, "ECMA_OAUTH", "ECMA_ID"
	if _, err := New(a, b); err != nil {
		t.Error(err)
	}
	b.Logins = nil
	if _, err := New(b); err == nil {
		t.Error("a provider without a login")
	}
}

// Every shape of login can be declared, counts its fields and reserves its
// headers; those that are not built yet say so.
func TestLoginShapes(t *testing.T) {
	for _, c := range []struct {
		login   string
		fields  []string
		headers []string
	}{
		{`{"id":"x","auth":{"type":"multi-header","headers":[{"name":"A-Key","valueTemplate":"{{a}}"},{"name":"B-Key","valueTemplate":"x {{b}}"}]}}`,
			[]string{"a", "b"}, []string{"a-key", "b-key"}},
		{`{"id":"x","auth":{"type":"query","paramName":"key","valueTemplate":"{{a}}"}}`, []string{"a"}, nil},
		{`{"id":"x","auth":{"type":"multi-query","params":[{"name":"k","valueTemplate":"{{a}}"},{"name":"t","valueTemplate":"{{b}}"}]}}`, []string{"a", "b"}, nil},
		{`{"id":"x","auth":{"type":"path","prefixTemplate":"/bot{{a}}"}}`, []string{"a"}, nil},
		{`{"id":"x","auth":{"type":"basic","passwordTemplate":"{{a}}"}}`, []string{"a"}, []string{"authorization"}},
		{`{"id":"x","auth":{"type":"oauth2"},"oauth2":{"fields":["a"],"yields":["access_token"],"grantType":"account_credentials",
		  "tokenEndpoint":"https://id.acme.test/token","clientAuth":"basic","bodyFormat":"json","tokenParams":{"account_id":"{{b}}"},
		  "headers":[{"name":"X-T","valueTemplate":"{{access_token}}"},{"name":"Client-Id","valueTemplate":"{{b}}"}]}}`,
			[]string{"a", "b"}, []string{"x-t", "client-id"}},
		{`{"id":"x","auth":{"type":"aws-sigv4"},"sigv4":{"fields":["a","b?"],"service":"{by-host}","region":"{region}"}}`,
			[]string{"a"}, []string{"authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"}},
		{`{"id":"x","auth":{"type":"hmac"},"hmac":{"algorithm":"sha256","encoding":"hex","keyField":"a","sign":"{query}{body}",
		  "output":{"in":"header","name":"X-Sign"},"headers":[{"name":"X-MBX-APIKEY","valueTemplate":"{{b}}"}],"timestamp":{"in":"query","name":"timestamp","unit":"ms"}}}`,
			[]string{"a", "b"}, []string{"x-mbx-apikey", "x-sign"}},
		{`{"id":"x","auth":{"type":"hmac"},"hmac":{"algorithm":"sha512","encoding":"base64","keyField":"a","keyEncoding":"base64","sign":"{path}{sha256:{{b}}{body}}",
		  "output":{"in":"header","name":"X-Sign","template":"{{b}} {{timestamp}} {{signature}}"},"timestamp":{"in":"query","name":"t"}}}`,
			[]string{"a", "b"}, []string{"x-sign"}},
		{`{"id":"x","auth":{"type":"hmac"},"hmac":{"algorithm":"sha384","encoding":"hex","keyField":"a","output":{"in":"query","name":"s","last":true}}}`,
			[]string{"a"}, nil},
		{`{"id":"x","auth":{"type":"mtls"},"mtls":{"certField":"a","keyField":"b","plus":{"type":"basic","usernameTemplate":"{{a}}"}}}`,
			[]string{"a", "b"}, []string{"authorization"}},
		{`{"id":"x","auth":{"type":"token-exchange"},"tokenExchange":{"tokenEndpoint":"https://id.acme.test/token","bodyFormat":"json",
		  "body":{"user":"{{a}}","secret":"{{b}}"},"tokenField":"access_token","headers":[{"name":"Authorization","valueTemplate":"Bearer {{access_token}}"}]}}`,
			[]string{"b", "a"}, []string{"authorization"}},
	} {
		used := []string{"a"}
		if slices.Contains(c.fields, "b") || strings.Contains(c.login, `"b?"`) {
			used = append(used, "b")
		}
		var secrets []string
		for _, f := range used {
			secrets = append(secrets, `{"name":"ACME_`+strings.ToUpper(f)+`","field":"`+f+`"}`)
		}
		file := `{"schemaVersion":1,"provider":"acme","title":"Acme","category":"x","docs":"https://acme.test","getKey":{"text":"Ask.","url":"https://acme.test"},
		  "secrets":[` + strings.Join(secrets, ",") + `],"hosts":["api.acme.test"],"logins":[` + c.login + `],
		  "capabilities":[{"id":"acme/x","description":"X.","access":"read","methods":["GET"],"paths":["/"]}]}`
		p, err := Parse([]byte(file))
		if err != nil {
			t.Errorf("%s: %v", c.login, err)
			continue
		}
		if err := schemaSays(t, compileSchema(t), []byte(file)); err != nil {
			t.Errorf("%s: %v", c.login, err)
		}
		l := &p.Logins[0]
		if !slices.Equal(l.Fields(), c.fields) || !slices.Equal(l.authHeaders(), c.headers) {
			t.Errorf("%s: %v, %v", l.Auth.Type, l.Fields(), l.authHeaders())
		}
		// Its parameters under another type, and a built type in their place.
		if l.OAuth2 != nil || l.SigV4 != nil || l.HMAC != nil || l.MTLS != nil || l.TokenExchange != nil {
			bad := strings.Replace(file, `"type":"`+l.Auth.Type+`"`, `"type":"header","headerName":"A","valueTemplate":"{{a}}"`, 1)
			if _, err := Parse([]byte(bad)); err == nil {
				t.Errorf("%s: its parameters pass under header", l.Auth.Type)
			}
		}
	}
}

// Parameters of a strategy within auth would be read by nobody.
func TestParametersStandBesideAuth(t *testing.T) {
	const mac = `{"algorithm":"sha256","encoding":"hex","keyField":"a","output":{"in":"header","name":"X-S"}}`
	for login, ok := range map[string]bool{
		`{"id":"x","auth":{"type":"hmac"},"hmac":` + mac + `}`:                                                                                                true,
		`{"id":"x","auth":{"type":"hmac","hmac":` + mac + `},"hmac":` + mac + `}`:                                                                             false,
		`{"id":"x","auth":{"type":"hmac","hmac":` + mac + `}}`:                                                                                                false,
		`{"id":"x","auth":{"type":"header","headerName":"A","valueTemplate":"{{a}}","hmac":` + mac + `}}`:                                                     false,
		`{"id":"x","auth":{"type":"hmac"},"notYet":"hmac","hmac":` + mac + `}`:                                                                                false,
		`{"id":"x","auth":{"type":"hmac"},"hmac":{"algorithm":"sha256","encoding":"hex","keyField":"a","output":{"in":"header","name":"X-S","last":true}}}`:   false,
		`{"id":"x","auth":{"type":"mtls"},"mtls":{"certField":"a","keyField":"a","plus":{"type":"basic","usernameTemplate":"u","passwordTemplate":"{{a}}"}}}`: true,
		`{"id":"x","auth":{"type":"mtls"},"mtls":{"certField":"a","keyField":"a","plus":{"type":"hmac","hmac":` + mac + `}}}`:                                 false,
	} {
		file := `{"schemaVersion":1,"provider":"acme","title":"Acme","category":"x","docs":"https://acme.test","getKey":{"text":"Ask.","url":"https://acme.test"},
		  "secrets":[{"name":"ACME_A","field":"a"}],"hosts":["api.acme.test"],"logins":[` + login + `],
		  "capabilities":[{"id":"acme/x","description":"X.","access":"read","methods":["GET"],"paths":["/"]}]}`
		_, err := Parse([]byte(file))
		schema := schemaSays(t, compileSchema(t), []byte(file))
		if (err == nil) != ok || (schema == nil) != ok {
			t.Errorf("%s: %v; schema: %v", login, err, schema)
		}
	}
}

// What every start costs.
func BenchmarkLoad(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Load(); err != nil {
			b.Fatal(err)
		}
	}
}

// What the first question about a secret's name costs.
func BenchmarkClaims(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		r, err := Load()
		if err != nil {
			b.Fatal(err)
		}
		if _, ok := r.Claims("OPENAI_API_KEY"); !ok {
			b.Fatal("nobody claims it")
		}
	}
}

// What asking for every provider costs, once in a process.
func BenchmarkDecodeAll(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		r, err := Load()
		if err != nil {
			b.Fatal(err)
		}
		for _, id := range r.Providers() {
			r.Provider(id)
		}
	}
}

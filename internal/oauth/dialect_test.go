package oauth

import (
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/standin"
)

// Every dialect that providers speak: the stand-in refuses what is not its
// own.
func TestDialects(t *testing.T) {
	asExchange := func(w *Want) {
		w.Spec = api.AuthSpec{Type: "token-exchange", TokenExchange: &api.TokenExchangeSpec{TokenEndpoint: "https://" + idpHost + "/token", BodyFormat: "json",
			Body: map[string]string{"identifier": "{{client_id}}", "secret": "{{client_secret}}", "kind": "pat"}, TokenField: "access_token"}}
	}
	exchanged := map[string]string{"identifier": standin.IDPClient, "secret": standin.IDPSecret, "kind": "pat"}
	for name, c := range map[string]struct {
		o       standin.IDPOptions
		refresh bool
		spec    func(*api.OAuth2Spec)
		want    func(*Want)
		ends    time.Duration // 0: not known
	}{
		"refresh":           {refresh: true, ends: time.Hour},
		"refresh, rotating": {o: standin.IDPOptions{Rotate: true}, refresh: true, ends: time.Hour},
		"refresh, repeated": {o: standin.IDPOptions{Repeat: true}, refresh: true, ends: time.Hour},
		"refresh, basic":    {o: standin.IDPOptions{ClientAuth: "basic"}, refresh: true, spec: func(o *api.OAuth2Spec) { o.ClientAuth = "basic" }, ends: time.Hour},
		"refresh, none":     {o: standin.IDPOptions{ClientAuth: "none"}, refresh: true, spec: func(o *api.OAuth2Spec) { o.ClientAuth = "none" }, ends: time.Hour},
		"refresh, as JSON":  {o: standin.IDPOptions{Body: "json"}, refresh: true, spec: func(o *api.OAuth2Spec) { o.BodyFormat = "json" }, ends: time.Hour},
		"basic and JSON":    {o: standin.IDPOptions{Body: "json", ClientAuth: "basic"}, refresh: true, spec: func(o *api.OAuth2Spec) { o.BodyFormat, o.ClientAuth = "json", "basic" }, ends: time.Hour},
		"client":            {ends: time.Hour},
		"client, basic":     {o: standin.IDPOptions{ClientAuth: "basic"}, spec: func(o *api.OAuth2Spec) { o.ClientAuth = "basic" }, ends: time.Hour},
		"odd characters":    {o: standin.IDPOptions{ClientAuth: "basic", ClientID: "a b:c", ClientSecret: "p%+&=\u00e9 \"\\"}, spec: func(o *api.OAuth2Spec) { o.ClientAuth = "basic" }, ends: time.Hour},
		"odd, in a form":    {o: standin.IDPOptions{ClientID: "a b:c", ClientSecret: "p%+&=\u00e9 \"\\"}, ends: time.Hour},
		"odd, as JSON":      {o: standin.IDPOptions{Body: "json", ClientID: "a b:c", ClientSecret: "p%+&=\u00e9 \"\\"}, spec: func(o *api.OAuth2Spec) { o.BodyFormat = "json" }, ends: time.Hour},
		"account": {o: standin.IDPOptions{ClientAuth: "basic", Params: map[string]string{"grant_type": "account_credentials", "account_id": standin.IDPClient}}, spec: func(o *api.OAuth2Spec) {
			o.GrantType, o.ClientAuth, o.TokenParams = "account_credentials", "basic", map[string]string{"account_id": "{{client_id}}"}
		}, ends: time.Hour},
		"a parameter": {o: standin.IDPOptions{Body: "json", Params: map[string]string{"audience": "https://x.test/api/"}}, spec: func(o *api.OAuth2Spec) {
			o.BodyFormat, o.TokenParams = "json", map[string]string{"audience": "https://x.test/api/"}
		}, ends: time.Hour},
		"scopes":             {o: standin.IDPOptions{Params: map[string]string{"scope": "read write"}}, spec: func(o *api.OAuth2Spec) { o.Scopes = []string{"read", "write"} }, ends: time.Hour},
		"comma scopes":       {o: standin.IDPOptions{Params: map[string]string{"scope": "read,write"}}, spec: func(o *api.OAuth2Spec) { o.Scopes, o.ScopeSeparator = []string{"read", "write"}, "," }, ends: time.Hour},
		"a credential's own": {o: standin.IDPOptions{Params: map[string]string{"scope": "admin"}}, spec: func(o *api.OAuth2Spec) { o.Scopes = []string{"read"} }, want: func(w *Want) { w.Options.Scopes = []string{"admin"} }, ends: time.Hour},
		"no end":             {o: standin.IDPOptions{ExpiresIn: "-"}},
		"end as text":        {o: standin.IDPOptions{ExpiresIn: `"1800"`}, ends: 30 * time.Minute},
		"end as fraction":    {o: standin.IDPOptions{ExpiresIn: "899.5"}, ends: 899500 * time.Millisecond},
		"end in words":       {o: standin.IDPOptions{ExpiresIn: `"an hour"`}},
		"end of nothing":     {o: standin.IDPOptions{ExpiresIn: "null"}},
		"end before now":     {o: standin.IDPOptions{ExpiresIn: "-5"}},
		"end at once":        {o: standin.IDPOptions{ExpiresIn: "0"}},
		"end never":          {o: standin.IDPOptions{ExpiresIn: "1e300"}},
		"answer as a form":   {o: standin.IDPOptions{Answer: "form"}, refresh: true, ends: time.Hour},
		"form, rotating":     {o: standin.IDPOptions{Answer: "form", Rotate: true}, refresh: true, ends: time.Hour},
		"type in lower case": {o: standin.IDPOptions{TokenType: "bearer"}, ends: time.Hour},
		"an odd type":        {o: standin.IDPOptions{TokenType: "whatever"}, ends: time.Hour},
		"exchange":           {o: standin.IDPOptions{Body: "json", ExpiresIn: "-", Exchange: exchanged}, want: asExchange},
		"exchange, field":    {o: standin.IDPOptions{Body: "json", Exchange: exchanged, TokenField: "token"}, want: func(w *Want) { asExchange(w); w.Spec.TokenExchange.TokenField = "/token" }, ends: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, c.o)
			var w Want
			if c.refresh {
				w = b.refreshing(t, c.spec)
			} else {
				w = b.client(t, c.spec)
			}
			if c.o.ClientID != "" {
				b.put(t, "id", c.o.ClientID)
				b.put(t, "password", c.o.ClientSecret)
			}
			if c.want != nil {
				c.want(&w)
			}
			s := b.source(t)
			first := mustToken(t, s, w)
			if first.Version != 1 || first.Key != KeyOf(&w) || access(first) == "" || !first.Fields["refresh_token"].IsZero() {
				t.Errorf("token %d of %s, fields %d", first.Version, first.Key, len(first.Fields))
			}
			stored := b.stored(t, w)
			if got := time.UnixMilli(stored.ExpiresAtMs).Sub(b.clock.Now()); c.ends != 0 && got != c.ends || c.ends == 0 && stored.ExpiresAtMs != 0 {
				t.Errorf("it ends in %s (%d), want %s", got, stored.ExpiresAtMs, c.ends)
			}
			// It serves again, in every process, until it ends.
			for range 3 {
				if again := mustToken(t, b.source(t), w); access(again) != access(first) || again.Version != 1 {
					t.Error("another token was got")
				}
			}
			b.counts(t, standin.IDPCounts{Asked: 1, Given: 1})
			// It is renewed when it is refused, and before it ends.
			w.Refused = first.Version
			second := mustToken(t, s, w)
			if second.Version != 2 || access(second) == access(first) {
				t.Errorf("a refused token was renewed by version %d", second.Version)
			}
			w.Refused = 0
			given := 2
			if c.ends != 0 {
				b.clock.Add(c.ends - time.Minute + time.Millisecond)
				if third := mustToken(t, s, w); third.Version != 3 || access(third) == access(second) {
					t.Errorf("a token at its end was renewed by version %d", third.Version)
				}
				given++
			}
			b.counts(t, standin.IDPCounts{Asked: given, Given: given})
			stored = b.stored(t, w)
			if stored.Rotates != c.o.Rotate || stored.Reusable != (c.refresh && !c.o.Rotate) || stored.FirstAtMs > stored.ObtainedAtMs {
				t.Errorf("stored = %+v", stored)
			}
			b.nowhere(t)
		})
	}
}

// A token that lives for less than five minutes is renewed within the last
// fifth of its life, and one that was just got is used however short that is.
func TestShortLives(t *testing.T) {
	t.Parallel()
	b := newBench(t, standin.IDPOptions{ExpiresIn: "50"})
	w, s := b.client(t, nil), b.source(t)
	mustToken(t, s, w)
	b.clock.Add(39 * time.Second)
	if got := mustToken(t, s, w); got.Version != 1 {
		t.Errorf("renewed too early")
	}
	b.clock.Add(2 * time.Second)
	if got := mustToken(t, s, w); got.Version != 2 {
		t.Errorf("renewed too late")
	}
	b = newBench(t, standin.IDPOptions{ExpiresIn: "0.001"})
	w, s = b.client(t, nil), b.source(t)
	for i := range 3 {
		b.clock.Add(time.Second)
		if got := mustToken(t, s, w); got.Version != uint64(i+1) {
			t.Errorf("version %d", got.Version)
		}
	}
}

// A login that gives no refresh token is used until somebody revokes it.
func TestAuthorizationCode(t *testing.T) {
	t.Parallel()
	b := newBench(t, standin.IDPOptions{})
	b.put(t, "login", `{"clientId":"c","accessToken":"token-until-revoked"}`)
	w, s := want("authorization_code", map[string]string{"oauth": "login"}, nil), b.source(t)
	got := mustToken(t, s, w)
	if access(got) != "token-until-revoked" || got.Version != OwnVersion {
		t.Errorf("token %q of version %d", access(got), got.Version)
	}
	w.Refused = OwnVersion
	refuse(t, s, w, api.OAuthRefreshFailed, "no way to renew it", "aivault oauth login acme")
	b.put(t, "login", `{"clientId":"c"}`)
	w.Refused = 0
	refuse(t, s, w, api.AuthFailed, "hold no access_token", "aivault oauth login acme")
	b.counts(t, standin.IDPCounts{})
}

// An access token that was stored with its end is used until then.
func TestTheSecretsOwnToken(t *testing.T) {
	t.Parallel()
	b := newBench(t, standin.IDPOptions{})
	w, s := b.refreshing(t, nil), b.source(t)
	ends := b.clock.Now().Add(time.Hour).Unix()
	refresh := b.idp.Login()
	b.put(t, "login", `{"clientId":"idp-client","clientSecret":"idp-secret-0123456789","refreshToken":"`+refresh+`","accessToken":"own-access-token","expiresAt":`+itoa(ends)+`}`)
	if got := mustToken(t, s, w); access(got) != "own-access-token" || got.Version != OwnVersion {
		t.Errorf("token %q of version %d", access(got), got.Version)
	}
	b.counts(t, standin.IDPCounts{})
	w.Refused = OwnVersion
	if got := mustToken(t, s, w); got.Version != 1 {
		t.Errorf("version %d", got.Version)
	}
	w.Refused = 0
	b.put(t, "login", `{"client_id":"idp-client","client_secret":"idp-secret-0123456789","refresh_token":"`+refresh+`","access_token":"own-access-token","expires_at":`+itoa(ends)+`}`)
	b.clock.Add(time.Hour)
	if got := mustToken(t, s, w); got.Version != 1 || access(got) == "own-access-token" {
		t.Errorf("token of version %d", got.Version)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	base := func() Want {
		return want("refresh_token", map[string]string{"oauth": "s"}, func(o *api.OAuth2Spec) { o.Scopes = []string{"read"} })
	}
	of := func(w Want) string { return KeyOf(&w) }
	one := base()
	for name, c := range map[string]struct {
		edit func(*Want)
		same bool
	}{
		"nothing":             {func(*Want) {}, true},
		"refused":             {func(w *Want) { w.Refused = 7 }, true},
		"headers":             {func(w *Want) { w.Spec.OAuth2.Headers = []api.AuthField{{Name: "X", ValueTemplate: "{{access_token}}"}} }, true},
		"scopes of a refresh": {func(w *Want) { w.Options.Scopes = []string{"write"} }, true},
		"another field":       {func(w *Want) { w.Secrets = map[string]string{"other": "s"} }, true},
		"another secret":      {func(w *Want) { w.Secrets = map[string]string{"oauth": "t"} }, false},
		"one more secret":     {func(w *Want) { w.Secrets["client_id"] = "t" }, false},
		"another endpoint":    {func(w *Want) { w.Spec.OAuth2.TokenEndpoint += "/" }, false},
		"another parameter":   {func(w *Want) { w.Spec.OAuth2.TokenParams = map[string]string{"a": "b"} }, false},
		"another grant":       {func(w *Want) { w.Spec.OAuth2.GrantType = "client_credentials" }, false},
	} {
		w := base()
		c.edit(&w)
		if got := of(w) == of(one); got != c.same {
			t.Errorf("%s: the same key: %v", name, got)
		}
	}
	client := func(edit func(*Want)) string {
		w := want("client_credentials", map[string]string{"client_id": "i", "client_secret": "s"}, nil)
		edit(&w)
		return of(w)
	}
	if client(func(w *Want) { w.Options.Scopes = []string{"a", "b"} }) == client(func(w *Want) { w.Options.Scopes = []string{"ab"} }) {
		t.Error("two lists of scopes have one key")
	}
	if client(func(w *Want) { w.Spec.OAuth2.Scopes = []string{"a"} }) != client(func(w *Want) { w.Options.Scopes = []string{"a"} }) {
		t.Error("one list of scopes has two keys")
	}
	if client(func(w *Want) { w.Secrets = map[string]string{"client_id": "s", "client_secret": "i"} }) == client(func(*Want) {}) {
		t.Error("secrets that changed places have one key")
	}
	if got := of(Want{Spec: api.AuthSpec{Type: "header"}}); got != "" {
		t.Errorf("a header has the key %q", got)
	}
}

func TestMaterial(t *testing.T) {
	t.Parallel()
	read := func(fields map[string]string) (map[string]string, error) {
		values := map[string]secret.Value{}
		for k, v := range fields {
			values[k] = secret.FromString(v)
		}
		m, err := materialOf(values)
		if err != nil {
			return nil, err
		}
		out := map[string]string{}
		for k, v := range m.values {
			out[k] = string(v.Expose())
		}
		return out, nil
	}
	for name, c := range map[string]struct {
		fields, want map[string]string
	}{
		"fields":            {map[string]string{"client_id": "i", "client_secret": "{s}"}, map[string]string{"client_id": "i", "client_secret": "{s}"}},
		"snake case":        {map[string]string{"oauth": `{"client_id":"i","refresh_token":"r"}`}, map[string]string{"client_id": "i", "refresh_token": "r"}},
		"camel case":        {map[string]string{"oauth": ` {"clientId":"i","refreshToken":"r","expiresIn":3600}`}, map[string]string{"client_id": "i", "refresh_token": "r", "expires_in": "3600"}},
		"a client's file":   {map[string]string{"oauth": `{"installed":{"client_id":"i","redirect_uris":["x"]},"refreshToken":"r"}`}, map[string]string{"client_id": "i", "refresh_token": "r"}},
		"a member and null": {map[string]string{"oauth": `{"OPENAI_API_KEY":null,"tokens":{"access_token":"a","account_id":"u"}}`}, map[string]string{"access_token": "a", "account_id": "u"}},
		"a field wins":      {map[string]string{"client_id": "field", "oauth": `{"client_id":"member","refresh_token":"r"}`}, map[string]string{"client_id": "field", "refresh_token": "r"}},
		"plain text":        {map[string]string{"oauth": "1//refresh"}, map[string]string{"oauth": "1//refresh"}},
		"empty members":     {map[string]string{"oauth": `{"client_id":"i","client_secret":""}`}, map[string]string{"client_id": "i"}},
		"escapes":           {map[string]string{"oauth": `{"client_secret":"\u0061\"\\"}`}, map[string]string{"client_secret": `a"\`}},
		"too deep":          {map[string]string{"oauth": `{"a":{"b":{"client_id":"x"}},"client_id":"i"}`}, map[string]string{"client_id": "i"}},
	} {
		got, err := read(c.fields)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: %d values, want %d", name, len(got), len(c.want))
		}
		for k, v := range c.want {
			if got[k] != v {
				t.Errorf("%s: %s is wrong", name, k)
			}
		}
	}
	for name, text := range map[string]string{
		"cut off":       `{"client_secret":"sec`,
		"twice":         `{"client_secret":"sec","client_secret":"sec"}`,
		"two cases":     `{"client_secret":"sec","clientSecret":"sec"}`,
		"two levels":    `{"client_secret":"sec","web":{"client_secret":"sec"}}`,
		"more behind":   `{"client_secret":"sec"} sec`,
		"no UTF-8":      "{\"client_secret\":\"sec\xff\"}",
		"too deep":      `{"a":` + nested(70) + `,"client_secret":"sec"}`,
		"not an object": "{",
	} {
		_, err := read(map[string]string{"oauth": text})
		if api.CodeOf(err) != api.AuthFailed {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if e := api.AsError(err); contains(e.Message+e.Hint, "sec\"", "sec ") || !contains(e.Message, `"oauth"`) {
			t.Errorf("%s: %v repeats the secret, or does not name its field", name, err)
		}
	}
	for text, want := range map[string]time.Time{
		`{"expires_at":1780000000}`:               time.Unix(1780000000, 0),
		`{"expiresAt":1780000000123}`:             time.UnixMilli(1780000000123),
		`{"expiry":"2026-05-28T20:26:40Z"}`:       time.Unix(1780000000, 0),
		`{"expiry_date":"1780000000123"}`:         time.UnixMilli(1780000000123),
		`{"expires_at":"soon"}`:                   {},
		`{"expires_at":-5}`:                       {},
		`{"expires_in":3600,"refresh_token":"r"}`: {},
	} {
		m, err := materialOf(map[string]secret.Value{"oauth": secret.FromString(text)})
		if err != nil || !m.endsAt.Equal(want) {
			t.Errorf("%s: %v, %v", text, m.endsAt, err)
		}
	}
	parts := Parts(map[string]secret.Value{"client_id": secret.FromString("plain-client-id"), "oauth": secret.FromString(`{"clientSecret":"secret-of-client","tokens":{"refresh_token":"refresh-of-login"},"scope":"everything","other":"something-else"}`)})
	got := map[string]bool{}
	for _, p := range parts {
		got[string(p.Expose())] = true
	}
	if len(got) != 3 || !got["secret-of-client"] || !got["refresh-of-login"] || !got["something-else"] {
		t.Errorf("%d parts", len(got))
	}
}

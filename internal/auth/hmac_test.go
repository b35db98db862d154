package auth

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/secret"
)

const formType = "application/x-www-form-urlencoded"

// signed is the spec of a signature in the header X-Signature.
func signed(h api.HMACSpec) api.AuthSpec {
	if h.Algorithm == "" {
		h.Algorithm = "sha256"
	}
	if h.Output.In == "" {
		h.Output = api.AuthPlace{In: "header", Name: "X-Signature"}
	}
	return api.AuthSpec{Type: "hmac", HMAC: &h}
}

func place(in, name string) *api.AuthPlace { return &api.AuthPlace{In: in, Name: name} }

func hmacSuites() []suite {
	sum := func(key, message string) string {
		m := hmac.New(sha256.New, []byte(key))
		m.Write([]byte(message))
		return hex.EncodeToString(m.Sum(nil))
	}
	key := map[string]string{"secret": "key-0123456789"}
	bad := func(h api.HMACSpec) api.AuthSpec { return signed(h) }
	field := func(name, template string) []api.AuthField {
		return []api.AuthField{{Name: name, ValueTemplate: template}}
	}
	refused := []struct {
		for_ string
		spec api.AuthSpec
	}{
		{"hmac", api.AuthSpec{Type: "hmac"}},
		{"headerName", api.AuthSpec{Type: "hmac", HeaderName: "X-Signature", HMAC: signed(api.HMACSpec{}).HMAC}},
		{"hmac.algorithm", bad(api.HMACSpec{Algorithm: "md5"})},
		{"hmac.algorithm", bad(api.HMACSpec{Algorithm: "SHA256"})},
		{"hmac.encoding", bad(api.HMACSpec{Encoding: "base32"})},
		{"hmac.keyEncoding", bad(api.HMACSpec{KeyEncoding: "utf8"})},
		{"hmac.keyField", bad(api.HMACSpec{KeyField: "a b"})},
		{"hmac.sign", bad(api.HMACSpec{Sign: "constant"})},
		{"hmac.sign", bad(api.HMACSpec{Sign: "{{secret}}"})},
		{"hmac.sign", bad(api.HMACSpec{Sign: "{headers}"})},
		{"hmac.sign", bad(api.HMACSpec{Sign: `{method}\n{body}`})},
		{"hmac.output.name", bad(api.HMACSpec{Output: api.AuthPlace{In: "header", Name: "Host"}})},
		{"hmac.output.name", bad(api.HMACSpec{Output: api.AuthPlace{In: "query", Name: "a&b"}})},
		{"hmac.output.in", bad(api.HMACSpec{Output: api.AuthPlace{In: "cookie", Name: "a"}})},
		{"hmac.output.template", bad(api.HMACSpec{Output: api.AuthPlace{In: "header", Name: "X-S", Template: "{{secret}}"}})},
		{"hmac.output.template", bad(api.HMACSpec{Output: api.AuthPlace{In: "query", Name: "s", Template: "{{signature}}"}})},
		{"hmac.output.unit", bad(api.HMACSpec{Output: api.AuthPlace{In: "query", Name: "s", Unit: "s"}})},
		{"hmac.output.last", bad(api.HMACSpec{Output: api.AuthPlace{In: "header", Name: "X-S", Last: true}})},
		{"hmac.timestamp", bad(api.HMACSpec{Sign: "{timestamp}{body}"})},
		{"hmac.nonce", bad(api.HMACSpec{Sign: "{sha256:{nonce}}{body}"})},
		{"hmac.nonce", bad(api.HMACSpec{Output: api.AuthPlace{In: "header", Name: "X-S", Template: "{{nonce}}:{{signature}}"}})},
		{"hmac.sign", bad(api.HMACSpec{Timestamp: place("header", "X-T")})},
		{"hmac.sign", bad(api.HMACSpec{Sign: "{path}", Nonce: place("body", "n")})},
		{"hmac.sign", bad(api.HMACSpec{Sign: "{path}{body}", Timestamp: place("query", "t")})},
		{"hmac.timestamp.unit", bad(api.HMACSpec{Sign: "{query}", Timestamp: &api.AuthPlace{In: "query", Name: "t", Unit: "us"}})},
		{"hmac.timestamp.last", bad(api.HMACSpec{Sign: "{query}", Timestamp: &api.AuthPlace{In: "query", Name: "t", Last: true}})},
		{"hmac.timestamp.template", bad(api.HMACSpec{Sign: "{timestamp}", Timestamp: &api.AuthPlace{In: "header", Name: "X-T", Template: "{{secret}} {{timestamp}}"}})},
		{"hmac.nonce.unit", bad(api.HMACSpec{Sign: "{nonce}", Nonce: &api.AuthPlace{In: "header", Name: "X-N", Unit: "s"}})},
		{"hmac.headers[0].valueTemplate", bad(api.HMACSpec{Headers: field("X-K", "id")})},
		{"hmac", bad(api.HMACSpec{Headers: field("x-signature", "{{id}}")})},
		{"hmac", bad(api.HMACSpec{Headers: field("X-K", "{{signature}}")})},
		{"hmac", bad(api.HMACSpec{KeyField: "nonce"})},
		{"hmac", bad(api.HMACSpec{KeyField: "id", Headers: field("X-K", "{{id}}")})},
		{"hmac", bad(api.HMACSpec{Output: api.AuthPlace{In: "header", Name: "X-S", Template: "{{secret}} {{signature}}"}})},
		{"hmac", bad(api.HMACSpec{Sign: "{body}{{timestamp}}"})},
		{"hmac", bad(api.HMACSpec{Sign: "{query}", Output: *place("query", "s"), Timestamp: place("query", "S")})},
	}
	first := suite{
		spec: signed(api.HMACSpec{}), fields: key, body: "hello",
		wire: []string{"X-Signature: " + sum("key-0123456789", "hello")},
	}
	for _, r := range refused {
		first.bad, first.badFor = append(first.bad, r.spec), append(first.badFor, r.for_)
	}
	return []suite{first, {
		spec: signed(api.HMACSpec{
			KeyField: "key", Sign: "{timestamp}{{id}}{method}{host}{path}|{query}|{target}|{nonce}", Output: api.AuthPlace{In: "header", Name: "X-Signature", Template: "{{id}} t={{timestamp}},v1={{signature}}"},
			Headers: field("X-Id", "{{id}}"), Timestamp: place("header", "X-Time"), Nonce: place("header", "X-Nonce"),
		}),
		fields: map[string]string{"key": "key-0123456789", "id": "id-0123456789"}, target: "/v1/x?b=%20&a",
		wire: []string{"X-Id: id-0123456789", "X-Time: 1700000000", "X-Nonce: 1700000000123456",
			"X-Signature: id-0123456789 t=1700000000,v1=" + sum("key-0123456789", "1700000000id-0123456789POSTapi.example.com/v1/x|b=%20&a|/v1/x?b=%20&a|1700000000123456")},
		open: []string{"X-Time: 1700000000", "X-Nonce: 1700000000123456"},
	}, {
		spec: signed(api.HMACSpec{
			Sign: "{query}", Output: api.AuthPlace{In: "query", Name: "signature", Last: true},
			Timestamp: &api.AuthPlace{In: "query", Name: "timestamp", Unit: "ms"},
		}),
		fields: key, target: "/x?symbol=A", params: []string{"timestamp", "signature"},
		wire: []string{"timestamp=1700000000123", "signature=" + sum("key-0123456789", "symbol=A&timestamp=1700000000123")},
		open: []string{"timestamp=1700000000123"},
	}, {
		spec:   signed(api.HMACSpec{Sign: "{body}", Output: *place("body", "sig"), Nonce: place("body", "nonce")}),
		fields: key,
		wire:   []string{"nonce=1700000000123456", "sig=" + sum("key-0123456789", "nonce=1700000000123456")},
		open:   []string{"nonce=1700000000123456"},
	}}
}

// RFC 4231, test cases 1 to 4, 6 and 7: whole, since no spec truncates.
func TestRFC4231(t *testing.T) {
	repeat := func(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }
	var counting []byte
	for i := range 25 {
		counting = append(counting, byte(i+1))
	}
	for i, c := range []struct {
		key, data []byte
		want      [3]string
	}{
		{repeat(0x0b, 20), []byte("Hi There"), [3]string{
			"b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
			"afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6",
			"87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854"}},
		{[]byte("Jefe"), []byte("what do ya want for nothing?"), [3]string{
			"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
			"af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
			"164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"}},
		{repeat(0xaa, 20), repeat(0xdd, 50), [3]string{
			"773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
			"88062608d3e6ad8a0aa2ace014c8a86f0aa635d947ac9febe83ef4e55966144b2a5ab39dc13814b94e3ab6e101a34f27",
			"fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39bf3e848279a722c806b485a47e67c807b946a337bee8942674278859e13292fb"}},
		{counting, repeat(0xcd, 50), [3]string{
			"82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
			"3e8a69b7783c25851933ab6290af6ca77a9981480850009cc5577c6e1f573b4e6801dd23c4a7d679ccf8a386c674cffb",
			"b0ba465637458c6990e5a8c5f61d4af7e576d97ff94b872de76f8050361ee3dba91ca5c11aa25eb4d679275cc5788063a5f19741120c4f2de2adebeb10a298dd"}},
		{repeat(0xaa, 131), []byte("Test Using Larger Than Block-Size Key - Hash Key First"), [3]string{
			"60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
			"4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c60c2ef6ab4030fe8296248df163f44952",
			"80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598"}},
		{repeat(0xaa, 131), []byte("This is a test using a larger than block-size key and a larger than block-size data. " +
			"The key needs to be hashed before being used by the HMAC algorithm."), [3]string{
			"9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
			"6617178e941f020d351e2f254e8fd32c602420feb0b8fb9adccebb82461e99c5a678cc31e799176d3860e6110c46523e",
			"e37b6a775dc87dbaa4dfa9f96e5e3ffddebd71f8867289865df5a32d20cdc944b6022cac3c4982b10d5eeb55c3e4de15134676fb6de0446065c97440fa8c6a58"}},
	} {
		for j, algorithm := range []string{"sha256", "sha384", "sha512"} {
			raw, err := hex.DecodeString(c.want[j])
			if err != nil {
				t.Fatal(err)
			}
			for keyEncoding, key := range map[string]string{
				"hex": hex.EncodeToString(c.key), "base64": base64.StdEncoding.EncodeToString(c.key),
			} {
				for encoding, want := range map[string]string{"hex": c.want[j], "base64": base64.StdEncoding.EncodeToString(raw)} {
					s := suite{
						spec:   signed(api.HMACSpec{Algorithm: algorithm, Encoding: encoding, KeyEncoding: keyEncoding}),
						fields: map[string]string{"secret": key}, body: string(c.data),
					}
					a, err := additions(t, s.spec, s.input())
					if got := wireOf(a); err != nil || !slices.Equal(got, []string{"X-Signature: " + want}) {
						t.Errorf("case %d, %s, key as %s: %q, %v; want %s", i, algorithm, keyEncoding, got, err, want)
					}
				}
			}
		}
	}
}

func requestTo(t testing.TB, method, target string, headers ...api.Header) *policy.Request {
	t.Helper()
	r, err := policy.Canonicalise(method, target, headers, policy.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func values(pairs map[string]string) map[string]secret.Value {
	out := map[string]secret.Value{}
	for k, v := range pairs {
		out[k] = secret.FromString(v)
	}
	return out
}

// What the services themselves publish as examples. Keys and signatures are
// those of their documentation.
func TestPublishedExamples(t *testing.T) {
	form := api.Header{Name: "Content-Type", Value: formType}
	binance := map[string]string{
		"api_key":    "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A",
		"secret_key": "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j",
	}
	binanceSpec := api.HMACSpec{
		Algorithm: "sha256", Encoding: "hex", KeyField: "secret_key", Sign: "{query}{body}",
		Headers: []api.AuthField{{Name: "X-MBX-APIKEY", ValueTemplate: "{{api_key}}"}},
	}
	inQuery, inBody := binanceSpec, binanceSpec
	inQuery.Output = api.AuthPlace{In: "query", Name: "signature", Last: true}
	inQuery.Timestamp = &api.AuthPlace{In: "query", Name: "timestamp", Unit: "ms"}
	inBody.Output = api.AuthPlace{In: "body", Name: "signature"}
	inBody.Timestamp = &api.AuthPlace{In: "body", Name: "timestamp", Unit: "ms"}

	for _, c := range []struct {
		name    string
		spec    api.HMACSpec
		fields  map[string]string
		request *policy.Request
		body    string
		now     time.Time
		want    []string
	}{{
		// docs.github.com, "Validating webhook deliveries".
		name: "GitHub's X-Hub-Signature-256", fields: map[string]string{"secret": "It's a Secret to Everybody"},
		spec: api.HMACSpec{
			Algorithm: "sha256", Output: api.AuthPlace{In: "header", Name: "X-Hub-Signature-256", Template: "sha256={{signature}}"},
		},
		request: requestTo(t, "POST", "/hook"), body: "Hello, World!",
		want: []string{"X-Hub-Signature-256: sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
	}, {
		// developers.binance.com, Spot REST API, request security, HMAC:
		// all in the query.
		name: "Binance, query", fields: binance, spec: inQuery, now: time.UnixMilli(1499827319559),
		request: requestTo(t, "POST", "/api/v3/order?symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000"),
		want: []string{"X-Mbx-Apikey: " + binance["api_key"], "timestamp=1499827319559",
			"signature=c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"},
	}, {
		name: "Binance, body", fields: binance, spec: inBody, now: time.UnixMilli(1499827319559),
		request: requestTo(t, "POST", "/api/v3/order", form),
		body:    "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000",
		want: []string{"X-Mbx-Apikey: " + binance["api_key"], "timestamp=1499827319559",
			"signature=c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"},
	}, {
		name: "Binance, query and body", fields: binance, spec: inBody, now: time.UnixMilli(1499827319559),
		request: requestTo(t, "POST", "/api/v3/order?symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC", form),
		body:    "quantity=1&price=0.1&recvWindow=5000",
		want: []string{"X-Mbx-Apikey: " + binance["api_key"], "timestamp=1499827319559",
			"signature=0fd168b8ddb4876a0358a8d14d0c9f3da0e9b20c5d52b2a00fcf7d1c602f9a77"},
	}, {
		// docs.kraken.com, Spot REST authentication. There the nonce is the
		// form's first member, so that it is given here in a header beside
		// the form as printed; TestKraken has it in the form.
		name:   "Kraken",
		fields: map[string]string{"private_key": "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="},
		spec: api.HMACSpec{
			Algorithm: "sha512", Encoding: "base64", KeyField: "private_key", KeyEncoding: "base64",
			Sign: "{path}{sha256:{nonce}{body}}", Output: *place("header", "API-Sign"), Nonce: place("header", "X-Nonce"),
		},
		request: requestTo(t, "POST", "/0/private/AddOrder", form), now: time.UnixMicro(1616492376594),
		body: "nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25",
		want: []string{"X-Nonce: 1616492376594",
			"Api-Sign: 4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="},
	}, {
		// docs.cdp.coinbase.com, Exchange REST authentication, prints the
		// request of this order and no key: the signature is from OpenSSL.
		name: "Coinbase Exchange", now: time.Unix(1700000000, 0),
		fields: map[string]string{"key": "the-key", "secret": "QSBzZWNyZXQgb2YgYW4gZXhjaGFuZ2UsIDMyIGJ5dGVz", "passphrase": "the-passphrase"},
		spec: api.HMACSpec{
			Algorithm: "sha256", Encoding: "base64", KeyEncoding: "base64", Sign: "{timestamp}{method}{target}{body}",
			Output: *place("header", "CB-ACCESS-SIGN"), Timestamp: place("header", "CB-ACCESS-TIMESTAMP"),
			Headers: []api.AuthField{{Name: "CB-ACCESS-KEY", ValueTemplate: "{{key}}"}, {Name: "CB-ACCESS-PASSPHRASE", ValueTemplate: "{{passphrase}}"}},
		},
		request: requestTo(t, "POST", "/orders", api.Header{Name: "Content-Type", Value: "application/json"}),
		body:    `{"price":"1.0","size":"1.0","side":"buy","product_id":"BTC-USD"}`,
		want: []string{"Cb-Access-Key: the-key", "Cb-Access-Passphrase: the-passphrase", "Cb-Access-Timestamp: 1700000000",
			"Cb-Access-Sign: AkwZxmZ3yyWImCqKSEP8/x3Gvgl8eBGMihtiw8Z0kd0="},
	}} {
		in := Input{Fields: values(c.fields), Request: c.request, Body: []byte(c.body), Now: c.now}
		a, err := additions(t, api.AuthSpec{Type: "hmac", HMAC: &c.spec}, in)
		if got := wireOf(a); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
}

// Kraken's login as the registry has it, verified as Kraken does: by the form
// that is sent.
func TestKraken(t *testing.T) {
	key, err := base64.StdEncoding.DecodeString("kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg==")
	if err != nil {
		t.Fatal(err)
	}
	spec := signed(api.HMACSpec{
		Algorithm: "sha512", Encoding: "base64", KeyEncoding: "base64", Sign: "{path}{sha256:{nonce}{body}}", Nonce: place("body", "nonce"),
	})
	for _, body := range []string{"", "pair=XBTUSD&volume=1.25"} {
		r := requestTo(t, "POST", "/0/private/AddOrder", api.Header{Name: "Content-Type", Value: formType})
		in := Input{
			Fields: values(map[string]string{"secret": base64.StdEncoding.EncodeToString(key)}), Request: r, Body: []byte(body), Now: time.UnixMicro(1616492376594),
			Destination: egress.Destination{Host: "api.kraken.com"},
		}
		a, err := additions(t, spec, in)
		if err != nil {
			t.Fatal(err)
		}
		sent, err := egress.WireBody(r, a, []byte(body))
		if err != nil || !strings.HasSuffix(string(sent), "nonce=1616492376594") {
			t.Fatalf("%q, %v", sent, err)
		}
		digest := sha256.Sum256(append([]byte("1616492376594"), sent...))
		mac := hmac.New(sha512.New, key)
		mac.Write([]byte("/0/private/AddOrder"))
		mac.Write(digest[:])
		want := base64.StdEncoding.EncodeToString(mac.Sum(nil))
		if got := string(a.Headers[0].Value.Expose()); got != want {
			t.Errorf("with the body %q: %s, want %s", body, got, want)
		}
	}
}

// What is signed carries the login's path prefix, as the wire does.
func TestSignsWhatIsSent(t *testing.T) {
	s := suite{spec: signed(api.HMACSpec{Sign: "{host}{target}"}), fields: map[string]string{"secret": "k"}, target: "/x?"}
	in := s.input()
	in.Destination = egress.Destination{Host: "api.example.com:8443", PathPrefix: "/v2"}
	a, err := additions(t, s.spec, in)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, []byte("k"))
	mac.Write([]byte("api.example.com:8443/v2/x?"))
	if got, want := string(a.Headers[0].Value.Expose()), hex.EncodeToString(mac.Sum(nil)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestHMACRefusesWhatTheCallerSets(t *testing.T) {
	for _, c := range []struct {
		spec    api.HMACSpec
		request *policy.Request
		body    string
	}{
		{api.HMACSpec{Sign: "{query}", Timestamp: place("query", "t")}, requestTo(t, "GET", "/x?T=1"), ""},
		{api.HMACSpec{Nonce: place("body", "nonce")}, requestTo(t, "POST", "/x", api.Header{Name: "Content-Type", Value: formType}), "a=1&%4eonce=5"},
		{api.HMACSpec{Nonce: place("body", "nonce")}, requestTo(t, "POST", "/x", api.Header{Name: "Content-Type", Value: "application/json"}), "{}"},
	} {
		in := Input{Fields: values(map[string]string{"secret": "k"}), Request: c.request, Body: []byte(c.body), Now: time.Now()}
		if a, err := additions(t, signed(c.spec), in); api.CodeOf(err) != api.PolicyViolation {
			t.Errorf("%s %q: %q, %v", c.request.Target(), c.body, wireOf(a), err)
		}
	}
}

func TestSignsBody(t *testing.T) {
	for _, c := range []struct {
		spec api.HMACSpec
		want bool
	}{
		{api.HMACSpec{}, true},
		{api.HMACSpec{Sign: "{path}{sha256:{body}}"}, true},
		{api.HMACSpec{Sign: "{method}{target}"}, false},
		{api.HMACSpec{Sign: "{method}{nonce}", Nonce: place("body", "n")}, true},
	} {
		s, err := New(signed(c.spec))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.SignsBody(requestTo(t, "GET", "/"), egress.Destination{}); got != c.want {
			t.Errorf("%+v: %t", c.spec, got)
		}
	}
}

func TestHMACKeys(t *testing.T) {
	key := []byte{0xfb, 0xff, 0x00, 0x0a, 0x41}
	for _, c := range []struct {
		encoding string
		good     []string
		bad      []string
	}{
		{"hex", []string{"fbff000a41", "FBFF000A41"}, []string{"fbff000a4", "fbff000a4g", "fb ff", " ", "0xfb", "fbff000a41\n"}},
		{"base64", []string{"+/8ACkE=", "-_8ACkE=", "+/8ACkE", "-_8ACkE"}, []string{"+_8ACkE=", "+/8ACkE==", "+/8ACkF=", "+/8ACkE=\n", "+/8A\nCkE=", "=", "a", "!!!!"}},
	} {
		for _, good := range c.good {
			in := Input{Fields: values(map[string]string{"secret": good})}
			got, err := hmacKey("secret", c.encoding, in)
			if err != nil || !bytes.Equal(got, key) {
				t.Errorf("%s %q: %x, %v", c.encoding, good, got, err)
			}
		}
		for _, bad := range c.bad {
			in := Input{Fields: values(map[string]string{"secret": bad}), Request: requestTo(t, "GET", "/")}
			_, err := additions(t, signed(api.HMACSpec{KeyEncoding: c.encoding}), in)
			if api.CodeOf(err) != api.AuthFailed || len(bad) > 3 && strings.Contains(err.Error(), bad) {
				t.Errorf("%s %q: %v", c.encoding, bad, err)
			}
		}
	}
}

// The bytes of a key that is stored encoded are to be scrubbed, too.
func TestHMACParts(t *testing.T) {
	fields := values(map[string]string{"secret": "fbff000a41"})
	for encoding, want := range map[string]string{"raw": "", "hex": "\xfb\xff\x00\x0a\x41"} {
		s, err := New(signed(api.HMACSpec{KeyEncoding: encoding}))
		if err != nil {
			t.Fatal(err)
		}
		var got string
		for _, v := range Parts(s, fields) {
			got += string(v.Expose())
		}
		if got != want {
			t.Errorf("%s: %q", encoding, got)
		}
		if n := len(Parts(s, nil)); n != 0 {
			t.Errorf("%s: %d parts of nothing", encoding, n)
		}
	}
}

func TestHeadersOfASpec(t *testing.T) {
	spec := signed(api.HMACSpec{Sign: "{query}{nonce}", Headers: []api.AuthField{{Name: "x-id", ValueTemplate: "{{id}}"}},
		Timestamp: place("query", "t"), Nonce: place("header", "x-nonce")})
	for _, c := range []struct {
		spec api.AuthSpec
		want []string
	}{
		{spec, []string{"X-Id", "X-Nonce", "X-Signature"}},
		{api.AuthSpec{Type: "basic"}, []string{"Authorization"}},
		{api.AuthSpec{Type: "header"}, []string{"Authorization"}},
		{api.AuthSpec{Type: "query", ParamName: "k"}, nil},
		{api.AuthSpec{Type: "nothing"}, nil},
	} {
		if got := Headers(c.spec); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.spec, got, c.want)
		}
	}
}

// Nonces rise strictly, whatever the clock does and however many ask.
func TestNoncesRise(t *testing.T) {
	var n Nonces
	base := time.UnixMicro(1_700_000_000_000_000)
	if got := n.Next(base); got != base.UnixMicro() {
		t.Fatalf("the first is %d", got)
	}
	last := base.UnixMicro()
	for _, step := range []time.Duration{0, 0, -time.Hour, time.Nanosecond, 5 * time.Microsecond, time.Second} {
		got := n.Next(base.Add(step))
		if got <= last {
			t.Errorf("%v: %d after %d", step, got, last)
		}
		last = got
	}
	if last != base.Add(time.Second).UnixMicro() {
		t.Errorf("a clock that went on gives %d", last)
	}
	const workers, each = 16, 500
	seen := make(chan []int64, workers)
	for range workers {
		go func() {
			var mine []int64
			for range each {
				mine = append(mine, n.Next(base))
			}
			seen <- mine
		}()
	}
	all := map[int64]bool{}
	for range workers {
		mine := <-seen
		if !slices.IsSorted(mine) {
			t.Error("one caller's nonces do not rise")
		}
		for _, v := range mine {
			all[v] = true
		}
	}
	if len(all) != workers*each {
		t.Errorf("%d nonces of %d", len(all), workers*each)
	}
}

// The strategy takes its nonces from the process's.
func TestHMACUsesNonces(t *testing.T) {
	var n Nonces
	s := suite{spec: signed(api.HMACSpec{Sign: "{nonce}", Nonce: place("header", "X-Nonce")}), fields: map[string]string{"secret": "k"}}
	var got []string
	for range 3 {
		in := s.input()
		in.Nonces = &n
		a, err := additions(t, s.spec, in)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(a.Headers[0].Value.Expose()))
	}
	first := time.Unix(contractTime, 123456789).UnixMicro()
	if want := []string{strconv.FormatInt(first, 10), strconv.FormatInt(first+1, 10), strconv.FormatInt(first+2, 10)}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestParseSign(t *testing.T) {
	for _, s := range []string{"", "x", "{", "}", "{}", "{body", "body}", "{Body}", "{ body }", "{body }", "{{body}}", "{{secret}}", "{body}}", "{{body}",
		"{{1a}}{body}", "{sha256:{body}", "{sha256:}{body}", "{sha256:{sha256:{body}}}", "{sha512:{body}}", "{sha256:x}", "{body}é", "{body}\r", "{body}\t",
		`{body}\n`, "{body}{{a}", "{{{body}}}", "{sha256{body}}", strings.Repeat("{body}", 200)} {
		if got, err := parseSign(s); err == nil {
			t.Errorf("%q parses as %q", s, got)
		}
	}
	for s, want := range map[string]string{
		"{body}":                           "BODY",
		"{method}\n{path}\n{query}":        "METHOD\nPATH\nQUERY",
		"{{id}}:{body}":                    "<id>:BODY",
		"{sha256:a}{target}":               digest("a") + "TARGET",
		"{path}{sha256:{nonce}{body}}":     "PATH" + digest("NONCEBODY"),
		"{sha256:{{id}}}{host}":            digest("<id>") + "HOST",
		"x{sha256:{{id}}{body}y}{{b}}zz\n": "x" + digest("<id>BODYy") + "<b>zz\n",
	} {
		got, err := parseSign(s)
		if err != nil {
			t.Errorf("%q: %v", s, err)
			continue
		}
		if message := messageOf(got); message != want {
			t.Errorf("%q signs %q, want %q", s, message, want)
		}
		if got.String() != s {
			t.Errorf("%q is written back as %q", s, got)
		}
	}
}

func digest(s string) string {
	d := sha256.Sum256([]byte(s))
	return string(d[:])
}

// messageOf is a message in which each part is its name in capitals, and each
// field in angles.
func messageOf(s signTemplate) string {
	var b bytes.Buffer
	s.write(&b, func(name string) []byte { return []byte(strings.ToUpper(name)) }, func(field string) []byte { return []byte("<" + field + ">") })
	return b.String()
}

// A message is what its parts are, one after the other.
func TestSignRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var text, want string
		piece := func(label string) (string, string) {
			switch rapid.IntRange(0, 2).Draw(t, label) {
			case 0:
				n := rapid.SampledFrom(signNames()).Draw(t, "name")
				return "{" + n + "}", strings.ToUpper(n)
			case 1:
				f := rapid.StringMatching(`[a-z][a-z0-9_-]{0,5}`).Draw(t, "field")
				return "{{" + f + "}}", "<" + f + ">"
			}
			l := rapid.StringMatching(`[a-zA-Z0-9:.|\n ]{1,5}`).Draw(t, "text")
			return l, l
		}
		for range rapid.IntRange(1, 6).Draw(t, "pieces") {
			s, m := piece("piece")
			if rapid.Bool().Draw(t, "digest") {
				more, moreMessage := piece("inner")
				s, m = "{sha256:"+s+more+"}", digest(m+moreMessage)
			}
			text, want = text+s, want+m
		}
		text, want = text+"{body}", want+"BODY"
		got, err := parseSign(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if got.String() != text || messageOf(got) != want {
			t.Fatalf("%q: %q signs %q, want %q", text, got, messageOf(got), want)
		}
	})
}

func FuzzSign(f *testing.F) {
	for _, s := range []string{"{body}", "{path}{sha256:{nonce}{body}}", "{timestamp}{method}{target}{body}", "{{id}}\n{host}", "{sha256:{{a}}}{query}", "}{", "{{", "{sha256:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseSign(s)
		if err != nil {
			return
		}
		if got.String() != s {
			t.Fatalf("%q came back as %q", s, got)
		}
		for name := range got.names() {
			if !slices.Contains(signNames(), name) {
				t.Fatalf("%q names %q", s, name)
			}
		}
		spec := signed(api.HMACSpec{Sign: s, Timestamp: place("header", "X-T"), Nonce: place("header", "X-N")})
		strategy, err := New(spec)
		if err != nil {
			return // without the one or the other
		}
		in := suite{}.input()
		in.Fields = values(map[string]string{})
		for _, name := range Fields(spec) {
			in.Fields[name] = secret.FromString("value")
		}
		if _, err := strategy.Additions(context.Background(), in); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		in.Fields = nil
		if _, err := strategy.Additions(context.Background(), in); err == nil {
			t.Fatalf("%q signs without a key", s)
		}
	})
}

func TestHMACWipesOnError(t *testing.T) {
	spec := signed(api.HMACSpec{Sign: "{{missing}}{body}", Headers: []api.AuthField{{Name: "X-Id", ValueTemplate: "{{id}}"}}})
	in := Input{Fields: values(map[string]string{"secret": "k", "id": "id-1"}), Request: requestTo(t, "GET", "/")}
	a, err := additions(t, spec, in)
	if err == nil || len(a.Headers) != 0 {
		t.Errorf("%q, %v", wireOf(a), err)
	}
	if got := slices.Sorted(maps.Keys(in.Fields)); !slices.Equal(got, []string{"id", "secret"}) {
		t.Errorf("the fields given became %q", got)
	}
}

func BenchmarkHMAC(b *testing.B) {
	s, err := New(signed(api.HMACSpec{Sign: "{timestamp}{method}{target}{body}", Timestamp: place("header", "X-T")}))
	if err != nil {
		b.Fatal(err)
	}
	in := suite{body: strings.Repeat("x", 1024), target: "/v1/orders?a=b"}.input()
	in.Fields = values(map[string]string{"secret": "key-0123456789"})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Additions(context.Background(), in); err != nil {
			b.Fatal(err)
		}
	}
}

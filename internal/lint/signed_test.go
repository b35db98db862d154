package lint

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/auth"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/standin"
)

// Services that check a signature are played by these: each is written from
// what the service's documentation says of it, and knows nothing of how the
// signature is made here. clockSkew is how far its clock may be away.
const clockSkew = 30 * time.Second

// A verifier says what is wrong with a request; values are the account's
// secrets by name.
type verifier func(s *standin.Seen, values map[string]string) error

func verifiers() map[string]verifier {
	return map[string]verifier{
		"aws": verifyAWS, "binance": verifyBinance, "coinbase-exchange": verifyCoinbase, "kraken": verifyKraken, "teller": verifyTeller,
	}
}

// verifyBinance: signature is a parameter, the HMAC SHA-256, in hex, of
// totalParams: the query string followed by the request body, both as sent,
// without the signature, which comes last; timestamp is in milliseconds.
func verifyBinance(s *standin.Seen, values map[string]string) error {
	if s.Header.Get("X-MBX-APIKEY") != values["BINANCE_API_KEY"] {
		return errors.New("the API key is another")
	}
	_, query, _ := strings.Cut(s.Target, "?")
	i := strings.LastIndex(query, "&signature=")
	if i < 0 {
		return errors.New("the query does not end with a signature")
	}
	signature, err := hex.DecodeString(query[i+len("&signature="):])
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, []byte(values["BINANCE_SECRET_KEY"]))
	mac.Write([]byte(query[:i]))
	mac.Write(s.Body)
	if !hmac.Equal(mac.Sum(nil), signature) {
		return errors.New("the signature is wrong")
	}
	params, err := url.ParseQuery(query)
	if err != nil {
		return err
	}
	if len(params["timestamp"]) != 1 || len(params["signature"]) != 1 {
		return errors.New("not one timestamp and one signature")
	}
	ms, err := strconv.ParseInt(params.Get("timestamp"), 10, 64)
	if err != nil {
		return err
	}
	return recent(time.UnixMilli(ms))
}

func recent(at time.Time) error {
	if d := time.Since(at); d > clockSkew || d < -clockSkew {
		return fmt.Errorf("the timestamp is %s away", d)
	}
	return nil
}

// verifyCoinbase: CB-ACCESS-SIGN is the base64 of the HMAC SHA-256, by the
// decoded secret, of timestamp, method, request path and body, one behind the
// other; the timestamp is in seconds.
func verifyCoinbase(s *standin.Seen, values map[string]string) error {
	h := s.Header
	if h.Get("CB-ACCESS-KEY") != values["COINBASE_EXCHANGE_KEY"] || h.Get("CB-ACCESS-PASSPHRASE") != values["COINBASE_EXCHANGE_PASSPHRASE"] {
		return errors.New("key or passphrase are others")
	}
	if h.Get("User-Agent") == "" {
		return errors.New("it has no User-Agent")
	}
	secret, err := base64.StdEncoding.DecodeString(values["COINBASE_EXCHANGE_SECRET"])
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s%s%s%s", h.Get("CB-ACCESS-TIMESTAMP"), s.Method, s.Target, s.Body)
	if !hmac.Equal([]byte(base64.StdEncoding.EncodeToString(mac.Sum(nil))), []byte(h.Get("CB-ACCESS-SIGN"))) {
		return errors.New("the signature is wrong")
	}
	seconds, err := strconv.ParseInt(h.Get("CB-ACCESS-TIMESTAMP"), 10, 64)
	if err != nil {
		return err
	}
	return recent(time.Unix(seconds, 0))
}

// verifyKraken: API-Sign is the base64 of the HMAC SHA-512, by the decoded
// private key, of the URI path followed by the SHA-256 of nonce and POST data;
// the nonce is a member of the form. Public endpoints need none of it.
func verifyKraken(s *standin.Seen, values map[string]string) error {
	if s.Header.Get("API-Key") != values["KRAKEN_API_KEY"] {
		return errors.New("the key is another")
	}
	path, _, _ := strings.Cut(s.Target, "?")
	if strings.HasPrefix(path, "/0/public/") {
		if s.BodyLength != 0 || s.Header.Get("API-Sign") != "" {
			return errors.New("a public endpoint is called with more than a key")
		}
		return nil
	}
	if kind := s.Header.Get("Content-Type"); kind != "application/x-www-form-urlencoded" {
		return fmt.Errorf("its content type is %q", kind)
	}
	form, err := url.ParseQuery(string(s.Body))
	if err != nil {
		return err
	}
	if len(form["nonce"]) != 1 {
		return errors.New("the form has not one nonce")
	}
	if _, err := strconv.ParseUint(form.Get("nonce"), 10, 64); err != nil {
		return err
	}
	key, err := base64.StdEncoding.DecodeString(values["KRAKEN_PRIVATE_KEY"])
	if err != nil {
		return err
	}
	digest := sha256.Sum256(slices.Concat([]byte(form.Get("nonce")), s.Body))
	mac := hmac.New(sha512.New, key)
	mac.Write([]byte(path))
	mac.Write(digest[:])
	if !hmac.Equal([]byte(base64.StdEncoding.EncodeToString(mac.Sum(nil))), []byte(s.Header.Get("API-Sign"))) {
		return errors.New("the signature is wrong")
	}
	return nil
}

// verifyTeller: the client certificate of the application, and the access
// token as the user name of HTTP Basic, without a password.
func verifyTeller(s *standin.Seen, values map[string]string) error {
	if s.Client == nil || s.Client.Subject.CommonName != clientName {
		return errors.New("the client certificate is another, or none")
	}
	r := http.Request{Header: s.Header}
	if user, password, ok := r.BasicAuth(); !ok || user != values["TELLER_ACCESS_TOKEN"] || password != "" {
		return errors.New("the access token is another")
	}
	return nil
}

// clientName is whose certificate shaped makes.
const clientName = "an application"

// shaped is a value for a secret's field in the form that the provider's
// logins need: plain is what it is made of.
func shaped(t *testing.T, ca *standin.ClientCA, p *registry.Provider, field, plain string, made map[string]string) string {
	t.Helper()
	for i := range p.Logins {
		switch l := &p.Logins[i]; {
		case l.HMAC != nil && l.HMAC.KeyField == field && l.HMAC.KeyEncoding == "base64":
			return base64.StdEncoding.EncodeToString([]byte(plain))
		case l.SigV4 != nil && slices.Equal(l.SigV4.Fields, []string{field}):
			return `{"AccessKeyId": "AKIA0123456789ABCDEF", "SecretAccessKey": "` + plain + `"}`
		case l.MTLS != nil && (l.MTLS.CertField == field || l.MTLS.KeyField == field):
			if made[l.MTLS.CertField] == "" {
				certPEM, keyPEM, err := ca.Issue(clientName, time.Now().Add(time.Hour))
				if err != nil {
					t.Fatal(err)
				}
				made[l.MTLS.CertField], made[l.MTLS.KeyField] = string(certPEM), string(keyPEM)
			}
			return made[field]
		case tokenShape(t, l, field, plain) != "":
			return tokenShape(t, l, field, plain)
		}
	}
	return plain
}

func newClientCA(t *testing.T) *standin.ClientCA {
	t.Helper()
	ca, err := standin.NewClientCA()
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// Every login of the registry that this version has is one that a custom
// credential could have, too.
func TestLoginsAreStrategies(t *testing.T) {
	r := load(t)
	for _, id := range r.Providers() {
		p := r.Provider(id)
		for i := range p.Logins {
			l := &p.Logins[i]
			if l.NotYet == l.Auth.Type {
				continue
			}
			if _, err := auth.New(l.Spec()); err != nil {
				t.Errorf("login %s of %s: %v", l.ID, id, err)
			}
			if missing := slices.DeleteFunc(auth.SecretFields(l.Spec()), func(f string) bool { return slices.Contains(l.Fields(), f) }); len(missing) > 0 {
				t.Errorf("login %s of %s: the registry does not know that it needs %q", l.ID, id, missing)
			}
		}
	}
}

// What the exchanges and the bank check is right in every kind of call, and
// wrong as soon as one byte of it is another.
func TestSigned(t *testing.T) {
	ca, r := newClientCA(t), load(t)
	form := []api.Header{{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}}
	text := func(s string) *string { return &s }
	for id, calls := range map[string][]api.Call{
		"binance": {
			{Capability: "binance/account-read", Request: api.Request{Method: "GET", Path: "/api/v3/account"}},
			{Capability: "binance/account-read", Request: api.Request{Method: "GET", Path: "/api/v3/order?symbol=BTCUSDT&orderId=1&note=a%20b%2B+c"}},
			{Capability: "binance/orders-write", Request: api.Request{Method: "POST", Path: "/api/v3/order?symbol=LTCBTC&side=BUY"}},
			{Capability: "binance/orders-write", Request: api.Request{Method: "POST", Path: "/api/v3/order", Headers: form, Body: text("symbol=LTCBTC&side=BUY&quantity=1")}},
			{Capability: "binance/orders-write", Request: api.Request{Method: "POST", Path: "/api/v3/order?symbol=LTCBTC", Headers: form, Body: text("quantity=1&price=0.1")}},
			{Capability: "binance/orders-write", Request: api.Request{Method: "DELETE", Path: "/api/v3/openOrders?symbol=LTCBTC"}},
		},
		"coinbase-exchange": {
			{Capability: "coinbase-exchange/account-read", Request: api.Request{Method: "GET", Path: "/accounts"}},
			{Capability: "coinbase-exchange/account-read", Request: api.Request{Method: "GET", Path: "/fills?product_id=BTC-USD&limit=10"}},
			{Capability: "coinbase-exchange/orders-write", Request: api.Request{Method: "POST", Path: "/orders", Body: text(`{"product_id": "BTC-USD","side":"buy","funds":"10"}`)}},
			{Capability: "coinbase-exchange/orders-write", Request: api.Request{Method: "DELETE", Path: "/orders/a-b-c"}},
		},
		"kraken": {
			{Capability: "kraken/market-data", Request: api.Request{Method: "GET", Path: "/0/public/Ticker?pair=XBTUSD"}},
			{Capability: "kraken/account-read", Request: api.Request{Method: "POST", Path: "/0/private/Balance"}},
			{Capability: "kraken/account-read", Request: api.Request{Method: "POST", Path: "/0/private/Ledgers", Headers: form, Body: text("asset=XBT&type=all")}},
			{Capability: "kraken/orders-write", Request: api.Request{Method: "POST", Path: "/0/private/AddOrder", Headers: form, Body: text("pair=XBTUSD&type=buy&userref=a%26b+c")}},
		},
		"teller": {
			{Capability: "teller/accounts-read", Request: api.Request{Method: "GET", Path: "/accounts"}},
			{Capability: "teller/payments", Request: api.Request{Method: "POST", Path: "/accounts/acc_1/payments", Body: text(`{"amount":"1.00"}`)}},
		},
	} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			o := aivaulttest.Options{Registry: r}
			if id == "teller" {
				o.ClientCAs = ca.Pool()
			}
			v := aivaulttest.Start(t, o)
			values := storeShaped(t, v, ca, r.Provider(id))
			if _, err := v.Admin.EnableCapabilities(context.Background(), aivaulttest.Operator(), api.SwitchRequest{Patterns: adminOf(r.Provider(id))}); err != nil {
				t.Fatal(err)
			}
			var lastNonce uint64
			for _, call := range calls {
				v.API.Record(true)
				if _, _, err := v.Invoke(call); err != nil {
					t.Errorf("%s %s: %v", call.Request.Method, call.Request.Path, err)
					continue
				}
				s := v.API.Seen()[0]
				if err := verifiers()[id](&s, values); err != nil {
					t.Errorf("%s %s with the body %q: %v", s.Method, s.Target, s.Body, err)
					continue
				}
				if sent := fmt.Sprintf("%s %v %s", s.Target, s.Header, s.Body); id != "teller" {
					for _, never := range []string{values["BINANCE_SECRET_KEY"], values["COINBASE_EXCHANGE_SECRET"], values["KRAKEN_PRIVATE_KEY"]} {
						if never != "" && strings.Contains(sent, never) {
							t.Errorf("the key that signs was sent: %s", sent)
						}
					}
					rejectsOneByte(t, id, s, values)
				}
				if form, err := url.ParseQuery(string(s.Body)); err == nil && form.Get("nonce") != "" {
					n, err := strconv.ParseUint(form.Get("nonce"), 10, 64)
					if err != nil || n <= lastNonce {
						t.Errorf("the nonce %d after %d, %v", n, lastNonce, err)
					}
					lastNonce = n
				}
			}
		})
	}
}

func adminOf(p *registry.Provider) []string {
	var ids []string
	for i := range p.Capabilities {
		if p.Capabilities[i].Access == "admin" {
			ids = append(ids, p.Capabilities[i].ID)
		}
	}
	return ids
}

// storeShaped stores all secrets of a provider.
func storeShaped(t *testing.T, v *aivaulttest.Aivault, ca *standin.ClientCA, p *registry.Provider) map[string]string {
	t.Helper()
	values, made := map[string]string{}, map[string]string{}
	for _, s := range p.Secrets {
		values[s.Name] = shaped(t, ca, p, s.Field, "v-"+strings.ToLower(strings.ReplaceAll(s.Name, "_", "-"))+"-0123456789", made)
		v.Create(t, s.Name, values[s.Name])
	}
	return values
}

// rejectsOneByte changes a request that was right byte by byte.
func rejectsOneByte(t *testing.T, id string, s standin.Seen, values map[string]string) {
	t.Helper()
	if strings.HasPrefix(s.Target, "/0/public/") {
		return // nothing of it is signed
	}
	verify := verifiers()[id]
	wrong := func(what string, at int, changed standin.Seen) {
		if verify(&changed, values) == nil {
			t.Errorf("%s: %s passes with another byte %d: %s %q", id, what, at, changed.Target, changed.Body)
		}
	}
	signed := s.Target
	if id == "binance" { // its path is no part of what is signed
		_, signed, _ = strings.Cut(s.Target, "?")
	}
	for i := len(s.Target) - len(signed); i < len(s.Target); i++ {
		changed := s
		changed.Target = s.Target[:i] + string(s.Target[i]^1) + s.Target[i+1:]
		if id != "binance" || !strings.EqualFold(changed.Target, s.Target) {
			wrong("the target", i, changed)
		}
	}
	for i := range s.Body {
		changed := s
		changed.Body = bytes.Clone(s.Body)
		changed.Body[i] ^= 1
		wrong("the body", i, changed)
	}
	for _, name := range []string{"X-MBX-APIKEY", "CB-ACCESS-KEY", "CB-ACCESS-PASSPHRASE", "CB-ACCESS-TIMESTAMP", "CB-ACCESS-SIGN", "API-Key", "API-Sign"} {
		value := s.Header.Get(name)
		for i := range value {
			changed := s
			changed.Header = s.Header.Clone()
			changed.Header.Set(name, value[:i]+string(value[i]^1)+value[i+1:])
			wrong(name, i, changed)
		}
	}
	if id == "coinbase-exchange" {
		changed := s
		changed.Method = "PATCH"
		wrong("the method", 0, changed)
	}
}

// A caller cannot set what the login adds.
func TestSignedPartsAreNotTheCallers(t *testing.T) {
	r := load(t)
	v := aivaulttest.Start(t, aivaulttest.Options{Registry: r})
	ca := newClientCA(t)
	for _, id := range []string{"binance", "coinbase-exchange", "kraken"} {
		storeShaped(t, v, ca, r.Provider(id))
	}
	header := func(name, value string) []api.Header { return []api.Header{{Name: name, Value: value}} }
	form := header("Content-Type", "application/x-www-form-urlencoded")
	text := func(s string) *string { return &s }
	for _, c := range []api.Call{
		{Capability: "binance/account-read", Request: api.Request{Method: "GET", Path: "/api/v3/account?timestamp=1"}},
		{Capability: "binance/account-read", Request: api.Request{Method: "GET", Path: "/api/v3/account?a=1&Signature=x"}},
		{Capability: "binance/account-read", Request: api.Request{Method: "GET", Path: "/api/v3/account?a=1&%73ignature=x"}},
		{Capability: "binance/account-read", Request: api.Request{Method: "GET", Path: "/api/v3/account", Headers: header("x-mbx_apikey", "x")}},
		{Capability: "coinbase-exchange/account-read", Request: api.Request{Method: "GET", Path: "/accounts", Headers: header("cb-access-sign", "x")}},
		{Capability: "coinbase-exchange/account-read", Request: api.Request{Method: "GET", Path: "/accounts", Headers: header("CB-Access-Timestamp", "1")}},
		{Capability: "kraken/account-read", Request: api.Request{Method: "POST", Path: "/0/private/Balance", Headers: form, Body: text("nonce=1")}},
		{Capability: "kraken/account-read", Request: api.Request{Method: "POST", Path: "/0/private/Balance", Headers: form, Body: text("a=1&NONCE=1")}},
		{Capability: "kraken/account-read", Request: api.Request{Method: "POST", Path: "/0/private/Balance", Body: text(`{"a":1}`)}},
		{Capability: "kraken/market-data", Request: api.Request{Method: "GET", Path: "/0/public/Time", Headers: header("API-Sign", "x")}},
	} {
		if _, _, err := v.Invoke(c); api.CodeOf(err) != api.PolicyViolation {
			t.Errorf("%s %v %v: %v", c.Request.Path, c.Request.Headers, c.Request.Body, err)
		}
	}
	if n := len(v.API.Seen()); n != 0 {
		t.Errorf("%d requests went out", n)
	}
}

package broker_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
)

// Certificates are told of before they end, while calls still go out.
func TestCertificatesThatEndSoon(t *testing.T) {
	ca := clientCA(t)
	var ahead atomic.Int64
	v := start(t, aivaulttest.Options{ClientCAs: ca.Pool(), Clock: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	cert, key := clientPEM(t, ca, "first", time.Now().Add(23*time.Hour)) // of a day
	v.Create(t, "TELLER_ACCESS_TOKEN", "tok-0123456789")
	v.Create(t, "TELLER_CLIENT_CERT", cert)
	v.Create(t, "TELLER_CLIENT_KEY", key)
	s := v.Create(t, "ACME_KEY", "key-0123456789")
	_, err := v.Admin.CreateCredential(background, aivaulttest.Operator(), api.CredentialCreate{
		ID: "acme", Provider: "acme", SecretRefs: map[string]string{"": s.ID}, Hosts: []string{"api.acme.test"},
		Auth: &api.AuthSpec{Type: "header"}, CAPEM: string(v.API.CAPEM()), // of a day, too
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		ahead time.Duration
		want  []string // what, in order; "soon" where it is
	}{
		{0, nil},
		{16 * time.Hour, []string{"credential acme soon a certificate of its --ca-file ends on", "credential teller soon its client certificate ends on"}},
		{36 * time.Hour, []string{"credential acme a certificate of its --ca-file ended on", "credential teller credential"}},
	} {
		ahead.Store(int64(c.ahead))
		_, problems := v.Broker.Providers(background, aivaulttest.Operator())
		if len(problems) != len(c.want) {
			t.Errorf("after %v: %+v", c.ahead, problems)
			continue
		}
		for i, p := range problems {
			what := p.What + " " + p.Why
			if p.Soon {
				what = p.What + " soon " + p.Why
			}
			if !strings.HasPrefix(what, c.want[i]) || p.Hint == "" {
				t.Errorf("after %v: %q, hint %q", c.ahead, what, p.Hint)
			}
		}
	}
	// Nobody else is told, and calls go out as long as they can.
	ahead.Store(int64(16 * time.Hour))
	mustInvoke(t, v, get("teller/accounts-read", "/accounts"))
	if _, problems := v.Broker.Providers(background, aivaulttest.Agent()); len(problems) != 0 {
		t.Errorf("an agent is told %+v", problems)
	}
}

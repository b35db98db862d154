package egress

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/standin"
)

func clientCA(t testing.TB) *standin.ClientCA {
	t.Helper()
	ca, err := standin.NewClientCA()
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func clientCertificate(t testing.TB, ca *standin.ClientCA, name string) *tls.Certificate {
	t.Helper()
	certPEM, keyPEM, err := ca.Issue(name, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return &pair
}

// Every call reaches the server under its own certificate, whatever other
// calls go there at the same time, and neither a connection nor a TLS session
// is ever another's.
func TestNoConnectionOfAnotherCertificate(t *testing.T) {
	ca := clientCA(t)
	var mu sync.Mutex
	owner := map[string]string{} // connection -> whose certificate
	resumed := 0
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.TLS.PeerCertificates[0].Subject.CommonName
		mu.Lock()
		defer mu.Unlock()
		if r.TLS.DidResume {
			resumed++
		}
		if had := owner[r.RemoteAddr]; had != "" && had != name {
			t.Errorf("connection %s served %s and %s", r.RemoteAddr, had, name)
		}
		owner[r.RemoteAddr] = name
		if got := r.Header.Get("X-Who"); got != name {
			t.Errorf("the call of %s came under the certificate of %s", got, name)
		}
	})
	a, err := standin.StartWith(standin.Options{Handler: handler, Hosts: []string{testHost}, ClientCAs: ca.Pool()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	c := newClient(t, Config{})
	to := destination(a.Addr(), a.CAPEM())
	names := []string{"anna", "boris", "clara"}
	certificates := map[string]*tls.Certificate{}
	for _, n := range names {
		certificates[n] = clientCertificate(t, ca, n)
	}
	for round := range 3 {
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() {
				name := names[i%len(names)]
				r := request(t, "GET", fmt.Sprintf("/%d", i), api.Header{Name: "X-Who", Value: name})
				resp, err := c.Send(t.Context(), to, r, Additions{Certificate: certificates[name]}, Body{})
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
			})
		}
		wg.Wait()
		if round < 2 {
			c.CloseIdle() // so that sessions are what could be shared
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(owner) < len(names) {
		t.Errorf("%d connections for %d certificates", len(owner), len(names))
	}
	t.Logf("%d connections, %d calls on resumed sessions", len(owner), resumed)
}

// What a server says of a missing or unfit certificate is told in our words.
func TestClientCertificateRefused(t *testing.T) {
	ca, other := clientCA(t), clientCA(t)
	a, err := standin.StartWith(standin.Options{Hosts: []string{testHost}, ClientCAs: ca.Pool(), MaxTLS: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	c := newClient(t, Config{})
	to := destination(a.Addr(), a.CAPEM())
	for _, tt := range []struct {
		add  Additions
		text string
	}{
		{Additions{}, "refused the TLS handshake"}, // TLS 1.2 has no word for it
		{Additions{Certificate: clientCertificate(t, other, "x")}, "does not take the client certificate"},
	} {
		_, err := send(t, c, to, "GET", "/", tt.add, Body{})
		wantCode(t, err, api.UpstreamUnreachable, tt.text)
		if len(a.Seen()) != 0 {
			t.Error("the request went out")
		}
	}
	resp, err := send(t, c, to, "GET", "/", Additions{Certificate: clientCertificate(t, ca, "x")}, Body{})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// The key of a client certificate is not kept beyond the connections that it
// made.
func TestCertificateIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine, _ := certificate(t)
		c := New(Config{})
		use := func(certificate *tls.Certificate) *pool {
			p, err := c.acquire(Destination{Host: testHost}, certificate)
			if err != nil {
				t.Fatal(err)
			}
			c.pools.release(p)
			return p
		}
		plain, first := use(nil), use(&mine)
		time.Sleep(keyIdle / 2)
		if use(&mine) != first {
			t.Fatal("a pool in use was dropped")
		}
		time.Sleep(keyIdle/2 + time.Second)
		if n := len(c.pools.all()); n != 2 {
			t.Fatalf("%d pools: one that was used within the time was dropped", n)
		}
		busy, err := c.acquire(Destination{Host: testHost}, &mine)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * keyIdle)
		if n := len(c.pools.all()); n != 2 || busy != first {
			t.Fatalf("%d pools: one with a call was dropped", n)
		}
		c.pools.release(busy)
		time.Sleep(keyIdle + time.Second)
		if all := c.pools.all(); len(all) != 1 || all[0] != plain || c.pools.count != 1 {
			t.Fatalf("%d pools, %d counted: the key is kept", len(all), c.pools.count)
		}
	})
}

// However many calls show a client certificate, one timer waits for the last:
// not each leaves its own behind for as long as the key is kept.
func TestOneTimerForACertificate(t *testing.T) {
	mine, _ := certificate(t)
	c := New(Config{})
	to := Destination{Host: testHost}
	p, err := c.acquire(to, &mine)
	if err != nil {
		t.Fatal(err)
	}
	c.pools.release(p)
	if n := testing.AllocsPerRun(100, func() { c.pools.release(c.pools.take(&to, &mine)) }); n >= 1 {
		t.Errorf("a call leaves %v allocations behind", n)
	}
}

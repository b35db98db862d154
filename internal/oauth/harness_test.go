package oauth

import (
	"context"
	"crypto/x509"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/standin"
	"moldable.sh/aivault/internal/vault"
)

func TestMain(m *testing.M) {
	if job := os.Getenv("AIVAULT_TEST_VICTIM"); job != "" {
		runVictim(job)
		return
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

const idpHost = "id.acme.test"

// A clock is a test's own.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.UnixMilli(1_780_000_000_000)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// A bench is a vault, an identity provider, and sources that ask it.
type bench struct {
	dir   string
	clock *clock
	idp   *standin.IDP
	api   *standin.API
}

func newBench(t testing.TB, o standin.IDPOptions) *bench {
	t.Helper()
	b := &bench{dir: t.TempDir(), clock: newClock(), idp: standin.NewIDP(o)}
	started, err := standin.Start(b.idp, idpHost)
	must(t, err)
	t.Cleanup(started.Close)
	b.api = started
	v := b.vault(t)
	must(t, v.Init(t.Context(), nil, keysource.Request{Provider: keysource.File}))
	return b
}

func (b *bench) vaultConfig() vault.Config {
	return vault.Config{Dir: filepath.Join(b.dir, "vault"), DefaultKeyFile: filepath.Join(b.dir, "kek.key"), Clock: b.clock.Now}
}

func (b *bench) vault(t testing.TB) *vault.Vault {
	t.Helper()
	v := vault.New(b.vaultConfig())
	t.Cleanup(func() { _ = v.Close() })
	return v
}

func (b *bench) egress() *egress.Client {
	return newEgress(b.api.CAPEM(), b.api.Addr())
}

func newEgress(ca []byte, at netip.AddrPort) *egress.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return egress.New(egress.Config{Roots: roots, Dial: map[string]netip.AddrPort{idpHost: at}})
}

// source is one more process that uses the vault.
func (b *bench) source(t testing.TB) *Source {
	t.Helper()
	s := New(Config{Vault: b.vault(t), Egress: b.egress(), Clock: b.clock.Now})
	t.Cleanup(s.Close)
	return s
}

// put stores a secret in a new version, or anew.
func (b *bench) put(t testing.TB, id, value string) {
	t.Helper()
	_, err := b.vault(t).Update(t.Context(), audit.Record{Event: audit.SecretCreated, Object: id}, func(tx *vault.Tx) error {
		for i := range tx.State.Secrets {
			if s := &tx.State.Secrets[i]; s.ID == id {
				s.Version++
				return tx.Seal(s, secret.FromString(value))
			}
		}
		s := vault.Secret{ID: id, Name: strings.ToUpper(id), Scope: "global", Version: 1}
		if err := tx.Seal(&s, secret.FromString(value)); err != nil {
			return err
		}
		tx.State.Secrets = append(tx.State.Secrets, s)
		return nil
	})
	must(t, err)
}

// refreshing stores a login's secret and wants its token.
func (b *bench) refreshing(t testing.TB, edit func(*api.OAuth2Spec)) Want {
	t.Helper()
	b.put(t, "login", login(b.idp.Login()))
	return want("refresh_token", map[string]string{"oauth": "login"}, edit)
}

func login(refresh string) string {
	return fmt.Sprintf(`{"client_id":%q,"client_secret":%q,"refresh_token":%q}`, standin.IDPClient, standin.IDPSecret, refresh)
}

// client stores a client's id and secret and wants its token.
func (b *bench) client(t testing.TB, edit func(*api.OAuth2Spec)) Want {
	t.Helper()
	b.put(t, "id", standin.IDPClient)
	b.put(t, "password", standin.IDPSecret)
	return want("client_credentials", map[string]string{"client_id": "id", "client_secret": "password"}, edit)
}

func want(grant string, secrets map[string]string, edit func(*api.OAuth2Spec)) Want {
	o := &api.OAuth2Spec{GrantType: grant, TokenEndpoint: "https://" + idpHost + "/token"}
	for field := range secrets {
		o.Fields = append(o.Fields, field)
	}
	if edit != nil {
		edit(o)
	}
	return Want{Spec: api.AuthSpec{Type: "oauth2", OAuth2: o}, Secrets: secrets, Provider: "acme", Renew: "aivault oauth login acme"}
}

func mustToken(t testing.TB, s *Source, w Want) Token {
	t.Helper()
	got, err := s.Token(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func access(t Token) string { return string(t.Fields["access_token"].Expose()) }

// refuse wants an error with a code, and texts in it.
func refuse(t testing.TB, s *Source, w Want, code api.Code, parts ...string) *api.Error {
	t.Helper()
	got, err := s.Token(t.Context(), w)
	if err == nil {
		t.Fatalf("got token %d; want %s", got.Version, code)
	}
	e := api.AsError(err)
	if e.Code != code {
		t.Fatalf("%s: %v; want %s", e.Code, err, code)
	}
	for _, p := range parts {
		if !strings.Contains(e.Message+"\n"+e.Hint, p) {
			t.Errorf("%q, hint %q: want %q in it", e.Message, e.Hint, p)
		}
	}
	return e
}

func (b *bench) stored(t testing.TB, w Want) *vault.Token {
	t.Helper()
	snap, err := b.vault(t).Snapshot(t.Context())
	must(t, err)
	return snap.Token(KeyOf(&w))
}

func (b *bench) counts(t testing.TB, want standin.IDPCounts) {
	t.Helper()
	if got := b.idp.Counts(); got != want {
		t.Errorf("counts = %+v, want %+v", got, want)
	}
}

// nowhere fails when one of the provider's tokens, or the client's secret, is
// in a file or in one of the texts.
func (b *bench) nowhere(t testing.TB, texts ...string) {
	t.Helper()
	find := func(where, text string) {
		for _, token := range append(b.idp.Tokens(), standin.IDPSecret) {
			if strings.Contains(text, token) {
				t.Errorf("%s holds a token", where)
			}
		}
	}
	for _, text := range texts {
		find("an error", text)
	}
	files := 0
	must(t, filepath.WalkDir(b.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		find(path, string(text))
		files++
		return err
	}))
	if files < 3 {
		t.Fatalf("walked %d files", files)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var background = context.Background()

func itoa(n int64) string { return fmt.Sprint(n) }

func nested(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }

func contains(text string, parts ...string) bool {
	for _, p := range parts {
		if strings.Contains(text, p) {
			return true
		}
	}
	return false
}

// Package aivaulttest runs an aivault in a test: a vault in a temporary
// directory, a broker and an admin over it, and a stand-in that plays every
// API that the registry knows. Nothing leaves the machine.
package aivaulttest

import (
	"context"
	"crypto/x509"
	"io"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/admin"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/broker"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/quota"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/standin"
	"moldable.sh/aivault/internal/strictjson"
	"moldable.sh/aivault/internal/vault"
)

// CustomHost is a host of the stand-in that no registry provider has.
const CustomHost = "api.acme.test"

// Options change what Start starts. The zero Options are the usual.
type Options struct {
	Registry *registry.Registry // default: the one compiled in
	Handler  http.Handler       // of the stand-in; default: its own routes
	Hosts    []string           // of the stand-in, beside the registry's and CustomHost
	// ClientCAs, when not nil, are whom a client certificate must be signed
	// by, without which the stand-in takes no connection.
	ClientCAs *x509.CertPool
	Clock     func() time.Time  // default: time.Now
	Default   keysource.Request // of the first command; default: a key file
	Refuse    error             // as broker.Config.Refuse
	Egress    func(*egress.Config)
	// QuotaClock is the time by which rates are counted; default: the
	// system's.
	QuotaClock func() (quota.Now, error)
}

// An Aivault is one running aivault.
type Aivault struct {
	Dir      string // the vault's directory; its key lies beside it
	API      *standin.API
	Registry *registry.Registry
	Process
	options Options
}

// A Process is what one process holds of an aivault.
type Process struct {
	Vault  *vault.Vault
	Egress *egress.Client
	Quota  *quota.Book
	Broker *broker.Broker
	Admin  *admin.Admin
}

// CheapArgon2id costs a test next to nothing.
func CheapArgon2id() keysource.Argon2Params {
	return keysource.Argon2Params{MemoryKiB: 8 << 10, Time: 1, Parallelism: 1}
}

// Operator may change the vault.
func Operator() grant.Caller {
	return grant.Caller{UID: 1000, GID: 1000, PID: 4711, StartedAt: 42, User: "op", Program: "aivault", Operator: true}
}

// Agent may make calls.
func Agent() grant.Caller {
	return grant.Caller{UID: 2000, GID: 2000, PID: 4712, StartedAt: 43, User: "agent", Program: "agent"}
}

// Start starts an aivault without a vault yet, and stops it when tb ends.
func Start(tb testing.TB, o Options) *Aivault {
	tb.Helper()
	if o.Registry == nil {
		r, err := registry.Load()
		if err != nil {
			tb.Fatal(err)
		}
		o.Registry = r
	}
	if o.Default.Provider == "" {
		o.Default.Provider = keysource.File
	}
	v := &Aivault{Dir: filepath.Join(tb.TempDir(), "vault"), Registry: o.Registry, options: o}
	upstream, err := standin.StartWith(standin.Options{Handler: o.Handler, Hosts: v.hosts(), ClientCAs: o.ClientCAs})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(upstream.Close)
	v.API = upstream
	v.Process = v.Open(tb)
	return v
}

// Open opens the same vault as another process would.
func (v *Aivault) Open(tb testing.TB) Process {
	tb.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(v.API.CAPEM()) {
		tb.Fatal("the stand-in's CA cannot be read")
	}
	cfg := egress.Config{Roots: roots, Dial: map[string]netip.AddrPort{}, UserAgent: "aivault/test"}
	for _, h := range v.hosts() {
		cfg.Dial[h] = v.API.Addr()
	}
	if v.options.Egress != nil {
		v.options.Egress(&cfg)
	}
	var p Process
	p.Egress = egress.New(cfg)
	p.Quota = quota.New(quota.Config{Path: filepath.Join(v.Dir, "limits"), Clock: v.options.QuotaClock})
	p.Vault = vault.New(vault.Config{
		Dir:            v.Dir,
		DefaultKeyFile: filepath.Join(filepath.Dir(v.Dir), "keys", "kek.key"),
		Argon2id:       CheapArgon2id(),
		Clock:          v.options.Clock,
	})
	p.Broker = broker.New(broker.Config{
		Vault: p.Vault, Registry: v.Registry, Egress: p.Egress, Quota: p.Quota, Clock: v.options.Clock, Refuse: v.options.Refuse,
	})
	p.Admin = admin.New(admin.Config{
		Vault: p.Vault, Registry: v.Registry, Default: v.options.Default, Quota: p.Quota, Owner: new(Operator().UID), Clock: v.options.Clock, Observe: p.Broker.Observe, OAuth: p.Broker.OAuth(),
	})
	tb.Cleanup(func() {
		p.Egress.CloseIdle()
		p.Broker.Close()
		if err := p.Quota.Close(); err != nil {
			tb.Errorf("close the limits: %v", err)
		}
		if err := p.Vault.Close(); err != nil {
			tb.Errorf("close the vault: %v", err)
		}
	})
	return p
}

// hosts are the names that the stand-in answers to.
func (v *Aivault) hosts() []string {
	hosts := append([]string{CustomHost}, v.options.Hosts...)
	seen := map[string]bool{}
	for _, h := range hosts {
		seen[h] = true
	}
	add := func(more []string) {
		for _, h := range more {
			if !seen[h] && !strings.ContainsAny(h, "{*") {
				seen[h] = true
				hosts = append(hosts, h)
			}
		}
	}
	add(v.Registry.Hosts())
	return hosts
}

// Create stores a secret, which makes the vault where there is none.
func (v *Aivault) Create(tb testing.TB, name, value string) api.Secret {
	tb.Helper()
	s, err := v.Admin.CreateSecret(context.Background(), Operator(), api.SecretCreate{Name: name, Value: secret.FromString(value)})
	if err != nil {
		tb.Fatalf("create secret %s: %v", name, err)
	}
	return s
}

// Invoke makes a call as the agent and reads the answer to its end.
func (p *Process) Invoke(call api.Call) (*broker.Answer, string, error) {
	answer, err := p.Broker.Do(context.Background(), Agent(), call, egress.Body{})
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(answer.Body)
	if closed := answer.Body.Close(); err == nil {
		err = closed
	}
	return answer, string(body), err
}

// Record is one line of the audit log, as far as tests look at it.
type Record = map[string]any

// Records reads the audit log from its start.
func (v *Aivault) Records(tb testing.TB) []Record {
	tb.Helper()
	list, err := v.Admin.Audit(context.Background(), Operator(), audit.Query{Limit: api.MaxAuditRecords})
	if err != nil {
		tb.Fatal(err)
	}
	records := make([]Record, len(list.Records))
	for i, line := range list.Records {
		if err := strictjson.Unmarshal(line, &records[i]); err != nil {
			tb.Fatalf("audit line %d: %v", i+1, err)
		}
	}
	return records
}

// Events are the records of the given events, in order.
func Events(records []Record, events ...string) []Record {
	var found []Record
	for _, r := range records {
		for _, e := range events {
			if r["event"] == e {
				found = append(found, r)
			}
		}
	}
	return found
}

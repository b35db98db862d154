package attack

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	experiment "github.com/go-json-experiment/json"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/standin"
	"moldable.sh/aivault/internal/strictjson"
)

// Provider is the custom provider under which the suite sets up what it
// attacks.
const Provider = "aivault-attack"

// Config says what is attacked: a daemon with a vault of its own, whose
// secrets are all decoys.
type Config struct {
	Socket      string // where this user is operator
	AgentSocket string // of the same daemon, where nobody is
	Dir         string // of its vault
	// Full runs what takes long, too.
	Full bool
	// Only, when not nil, chooses the attacks that are run.
	Only func(*Attack) bool
	// Began and Ended, when not nil, are told of each attack.
	Began func(*Attack)
	Ended func(Result)
}

// A Stand is what is attacked, prepared: an upstream that misbehaves, a decoy
// that is good for it, and two ways to the daemon.
type Stand struct {
	ctx       context.Context
	operator  string // sockets
	agent     string
	up        *standin.Hostile
	host      string // of the upstream
	decoy     string // the value of the main credential's secret
	auth      string // the header line that it makes
	userAgent string
	secrets   []string // all decoys so far
	finder    *finder  // of these
	count     int      // of what was made
	dir       string   // the vault's
	full      bool     // as Config has it
	log       []record
	read      map[string]int64 // how far each segment was
	clean     int              // how many records were looked at closely
}

// Run runs the table against a daemon. The error is of the suite itself; what
// came of the attacks is in the results.
func Run(ctx context.Context, cfg Config) (results []Result, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	up, err := standin.StartHostile()
	if err != nil {
		return nil, err
	}
	defer up.Close()
	s := &Stand{ctx: ctx, operator: cfg.Socket, agent: cfg.AgentSocket, dir: cfg.Dir, full: cfg.Full, up: up, finder: newFinder(), read: map[string]int64{}}
	if err := s.prepare(); err != nil {
		return nil, err
	}
	for _, a := range Table() {
		if a.Full && !cfg.Full || cfg.Only != nil && !cfg.Only(&a) {
			continue
		}
		if cfg.Began != nil {
			cfg.Began(&a)
		}
		r := s.run(ctx, &a)
		if ctx.Err() != nil {
			return results, ctx.Err()
		}
		results = append(results, r)
		if cfg.Ended != nil {
			cfg.Ended(r)
		}
	}
	return results, nil
}

// prepare makes the main credential and learns what an honest call looks like.
func (s *Stand) prepare() error {
	s.host = localhost(s.up)
	s.decoy = s.newDecoy()
	s.auth = "Authorization: Bearer " + s.decoy
	id, err := s.storeSecret("main", s.decoy, "")
	if err != nil {
		return err
	}
	if err := s.makeCredential(api.CredentialCreate{ID: Provider, SecretRefs: map[string]string{"": id}, Auth: &api.AuthSpec{Type: "header"}}); err != nil {
		return err
	}
	if err := s.makeCapability(api.CapabilityCreate{ID: Provider + "/honest", Methods: []string{"GET"}, Paths: []string{"=/honest"}}); err != nil {
		return err
	}
	a := s.call(call{capability: Provider + "/honest", method: "GET", path: "/honest"})
	seen := s.up.Take()
	if a.err != nil || a.status != http.StatusOK || len(seen) != 1 {
		return fmt.Errorf("attack: an honest call does not work: status %d %s %s, %w, %d requests", a.status, a.code, a.message, a.err, len(seen))
	}
	for line := range strings.SplitSeq(string(seen[0].Head), "\r\n") {
		if v, ok := strings.CutPrefix(line, "User-Agent: "); ok {
			s.userAgent = v
		}
	}
	return nil
}

// reset prepares the stand for the next attack.
func (s *Stand) reset() {
	s.up.Answer(standin.Whole("ok"))
	s.up.Take()
}

func localhost(up *standin.Hostile) string { return "localhost:" + strconv.Itoa(int(up.Addr().Port())) }

// newDecoy is a value that looks like a secret, holds what every encoding
// treats in its own way, and is looked for in all that comes back.
func (s *Stand) newDecoy() string {
	d := "dk-" + rand.Text() + `/+=~"<&>'\%` + rand.Text()[:14]
	s.secrets = append(s.secrets, d)
	s.finder.add(d)
	return d
}

// name makes a name that was not given yet.
func (s *Stand) name(of string) string {
	s.count++
	return of + "-" + strconv.Itoa(s.count)
}

// operate makes one of the operator's requests, and decodes the answer into
// out unless that is nil.
func (s *Stand) operate(method, route string, body, out any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	head := method + " " + route + " HTTP/1.1\r\nHost: aivault\r\nConnection: close\r\n"
	if body != nil {
		head += "Content-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(text)) + "\r\n"
	}
	a := s.exchange(s.operator, head+"\r\n"+string(text))
	switch {
	case a.err != nil:
		return fmt.Errorf("%s %s: %w", method, route, a.err)
	case a.code != "":
		return api.Errorf(a.code, "%s", a.message)
	case out == nil:
		return nil
	}
	return experiment.Unmarshal(a.body, out)
}

// storeSecret stores a value and returns the secret's id.
func (s *Stand) storeSecret(name, value, scope string) (id string, err error) {
	var made api.Secret
	err = s.operate("POST", api.RouteSecrets, map[string]string{"name": s.name(name), "value": value, "scope": scopeOr(scope)}, &made)
	return "vault:secret:" + made.ID, err
}

func scopeOr(scope string) string {
	if scope == "" {
		return "global"
	}
	return scope
}

// makeCredential makes a credential of the suite's provider. Without a host it
// leads to the upstream, by the operator's exceptions.
func (s *Stand) makeCredential(r api.CredentialCreate) error {
	if r.Provider == "" {
		r.Provider = Provider
	}
	if len(r.Hosts) == 0 {
		r.Hosts, r.CAPEM, r.AllowPrivateNetwork, r.AllowPorts = []string{s.host}, string(s.up.CAPEM()), true, []int{int(s.up.Addr().Port())}
	}
	return s.operate("POST", api.RouteCredentials, r, nil)
}

func (s *Stand) makeCapability(r api.CapabilityCreate) error {
	return s.operate("POST", api.RouteCapabilities, r, nil)
}

// credential makes a credential with a decoy of its own, and a provider of its
// own, for this attack; the capability admits /v1/below.
func (t *T) credential(change func(*api.CredentialCreate)) (credential, capability, decoy string) {
	decoy = t.newDecoy()
	id, err := t.storeSecret("own", decoy, "")
	t.must(err)
	name := t.name(Provider + "-own")
	r := api.CredentialCreate{ID: name, Provider: name, SecretRefs: map[string]string{"": id}, Auth: &api.AuthSpec{Type: "header"}}
	if change != nil {
		change(&r)
	}
	t.must(t.makeCredential(r))
	capability = name + "/call"
	c := api.CapabilityCreate{ID: capability, Provider: r.Provider, Methods: []string{"GET", "POST"}, Paths: []string{"/v1/below"}}
	t.must(t.makeCapability(c))
	return name, capability, decoy
}

// honest is an honest call of the attack's own capability, which admits
// exactly /v1/exact and what is below /v1/below, by five methods.
func (t *T) honest() call {
	if t.capID == "" {
		t.capID = Provider + "/" + t.attack.ID
		t.must(t.makeCapability(api.CapabilityCreate{
			ID: t.capID, Methods: []string{"GET", "HEAD", "POST", "PUT", "DELETE"}, Paths: []string{"=/v1/exact", "/v1/below"},
		}))
	}
	return call{capability: t.capID, method: "GET", path: "/v1/exact"}
}

// limit sets a policy on a capability.
func (t *T) limit(p api.PolicyChange) { t.must(t.operate("POST", api.RoutePolicies, p, nil)) }

// codeOf is the code of an error, "" for none.
func codeOf(err error) api.Code {
	var e *api.Error
	if errors.As(err, &e) {
		return e.Code
	}
	if err != nil {
		return "no answer"
	}
	return ""
}

// denied has the operator ask for something that has to be refused, with any
// of the codes.
func (t *T) denied(what string, err error, codes ...api.Code) {
	t.variants++
	code := codeOf(err)
	switch {
	case code == "":
		t.Errorf("%s: it was not refused", what)
	case !slices.Contains(codes, code):
		t.Errorf("%s: %v, want %v", what, err, codes)
	default:
		t.came("refused: " + string(code))
	}
}

// record is one line of the log, as far as attacks look at it.
type record struct {
	Seq        uint64 `json:"seq"`
	AtMs       int64  `json:"atMs"`
	Event      string `json:"event"`
	RequestID  string `json:"requestId"`
	Capability string `json:"capability"`
	Credential string `json:"credential"`
	Method     string `json:"method"`
	Path       string `json:"path"`
	Host       string `json:"host"`
	Object     string `json:"object"`
	Code       string `json:"code"`
	Reason     string `json:"reason"`
	Status     int    `json:"status"`
	Redactions int    `json:"redactions"`
	Caller     struct {
		UID      uint32 `json:"uid"`
		Program  string `json:"programClaimed"`
		Operator bool   `json:"operator"`
	} `json:"caller"`

	line string
}

// records are the log's so far, read from its files: what stands there, and not
// what a route tells of it.
func (s *Stand) records() ([]record, error) {
	segments, err := filepath.Glob(filepath.Join(s.dir, "audit", "*.jsonl"))
	if err != nil {
		return nil, err
	}
	slices.Sort(segments)
	for _, path := range segments {
		if err := s.readSegment(path); err != nil {
			return nil, err
		}
	}
	return s.log, nil
}

// readSegment reads the whole lines that were not there when it last did.
func (s *Stand) readSegment(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	name := filepath.Base(path)
	if _, err := f.Seek(s.read[name], io.SeekStart); err != nil {
		return err
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	for {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		if !whole {
			return nil
		}
		r := record{line: string(line)}
		if err := experiment.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("line %q: %w", clip(string(line)), err)
		}
		s.log = append(s.log, r)
		s.read[name] += int64(len(line)) + 1
		text = rest
	}
}

// ask makes one request that is no call, from the agent's socket.
func (s *Stand) ask(method, route, header string) answer {
	return s.exchange(s.agent, method+" "+route+" HTTP/1.1\r\nHost: aivault\r\nConnection: close\r\n"+header+"\r\n")
}

// status asks for the short status.
func (s *Stand) status() (st api.Status, err error) {
	a := s.ask("GET", api.RouteStatus, "")
	if a.err != nil {
		return st, a.err
	}
	return st, strictjson.Unmarshal(a.body, &st)
}

// await waits until done says so, for at most most.
func await(most time.Duration, done func() bool) bool {
	for until := time.Now().Add(most); ; time.Sleep(2 * time.Millisecond) {
		if done() {
			return true
		}
		if time.Now().After(until) {
			return false
		}
	}
}

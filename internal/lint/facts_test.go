package lint

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/strictjson"
)

// Facts about the providers stand in registry/testdata/facts.json. They were
// gathered apart from the provider files, so that the two have to agree: a
// file that is wrong fails here.

// fact is what is known of one provider.
type fact struct {
	ID        string            `json:"id"`
	Hosts     []string          `json:"hosts"`
	Aliases   []string          `json:"aliases"`
	Static    map[string]string `json:"static"` // headers that the API wants
	Logins    []factLogin       `json:"logins"` // the first is the usual one
	Endpoints []string          `json:"endpoints"`
}

// factLogin is a way to authenticate. Of types that are not built only the
// names are there.
type factLogin struct {
	Type     string            `json:"type"`
	Names    map[string]string `json:"names"` // secret -> field
	Hosts    []string          `json:"hosts"` // where not the provider's
	Headers  map[string]string `json:"headers"`
	Params   map[string]string `json:"params"`
	Prefix   string            `json:"prefix"`
	User     string            `json:"user"`
	Password string            `json:"password"`
}

// An endpoint is a line "ID ACCESS METHODS HOSTS [Name:value] RULES".
type endpoint struct {
	id, access string
	methods    []string
	hosts      []string
	headers    []api.Header // of one name, any
	rules      []string
	compiled   []policy.PathRule
}

func facts(t testing.TB) map[string]*fact {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "registry", "testdata", "facts.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list []*fact
	if err := strictjson.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	all := map[string]*fact{}
	for _, f := range list {
		all[f.ID] = f
	}
	if len(all) < 200 {
		t.Fatalf("only %d providers", len(all))
	}
	return all
}

func (f *fact) endpoints(t testing.TB) []endpoint {
	t.Helper()
	var all []endpoint
	for _, line := range f.Endpoints {
		words := strings.Fields(line)
		e := endpoint{id: words[0], access: words[1], methods: strings.Split(words[2], ","), hosts: strings.Split(words[3], ",")}
		for _, w := range words[4:] {
			if name, value, ok := strings.Cut(w, ":"); ok && w[0] != '/' && w[0] != '=' {
				e.headers = append(e.headers, api.Header{Name: name, Value: value})
				continue
			}
			rule, err := policy.ParsePathRule(w)
			if err != nil {
				t.Fatalf("%s: %v", e.id, err)
			}
			e.rules, e.compiled = append(e.rules, w), append(e.compiled, rule)
		}
		all = append(all, e)
	}
	return all
}

// admits says how specifically the endpoint admits a request.
func (e *endpoint) admits(r *policy.Request, header *api.Header) (rank int, ok bool) {
	if !slices.Contains(e.methods, r.Method()) || len(e.headers) > 0 && (header == nil || !slices.Contains(e.headers, *header)) {
		return 0, false
	}
	for i := range e.compiled {
		if e.compiled[i].Match(r) {
			rank, ok = max(rank, e.compiled[i].Specificity()), true
		}
	}
	return rank, ok
}

// request is what calls with a path are judged by, nil when none can be made.
func request(method, path string, headers []api.Header, rules policy.Rules) *policy.Request {
	r, err := policy.Canonicalise(method, path, headers, rules)
	if err != nil {
		return nil
	}
	return r
}

var braces = regexp.MustCompile(`\{[^}]*\}`)

// sameHost says whether an endpoint may be on one of a capability's hosts.
// Parameters may have other names; where no host is alike, that is no proof.
func (e *endpoint) sameHost(p *registry.Provider, hosts []string) bool {
	if len(p.HostParams) > 0 {
		return true
	}
	for _, h := range e.hosts {
		if slices.Contains(hosts, braces.ReplaceAllString(h, "x")) {
			return true
		}
	}
	return false
}

// The kinds of exceptions.
const (
	kindPost  = "post"
	kindReach = "reach"
)

// exceptions are lines "KIND CAPABILITY RULE-OR-ENDPOINT why"; each of post has to
// be needed.
func exceptions(t testing.TB, kind string) (excused func(capability, what string) bool) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "registry", "testdata", "facts-exceptions.txt"))
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != kind {
			continue
		}
		if len(words) < 6 {
			t.Fatalf("%q does not say why", line)
		}
		used[words[1]+" "+words[2]] = false
	}
	t.Cleanup(func() {
		for line, needed := range used {
			if kind == kindPost && t.Name() == "TestReadingPostsOnlyToWhatReads" && !needed && !t.Failed() {

				t.Errorf("%s %s is an exception that nothing needs", kind, line)
			}
		}
	})
	return func(capability, what string) bool {
		line := capability + " " + what
		_, ok := used[line]
		if ok {
			used[line] = true
		}
		return ok
	}
}

// A read capability posts only to what the facts say reads.
func TestReadingPostsOnlyToWhatReads(t *testing.T) {
	t.Parallel()
	r, known := load(t), facts(t)
	excused := exceptions(t, kindPost)
	for _, id := range r.Providers() {
		f := known[id]
		if f == nil {
			continue
		}
		endpoints := f.endpoints(t)
		all, _ := compile(r.Provider(id), r)
		for _, c := range all {
			if c.Access != "read" || !slices.Contains(c.Methods, "POST") {
				continue
			}
			for _, rule := range c.Paths {
				for _, headers := range c.allMatching() {
					var header *api.Header
					if len(headers) > 0 {
						header = &headers[0]
					}
					q := request("POST", instance(rule), nil, policy.Rules{})
					reads := q != nil && slices.ContainsFunc(endpoints, func(e endpoint) bool {
						_, ok := e.admits(q, header)
						return ok && (e.access == "read" || e.access == "mixed" && c.Operation != nil)
					})
					if !reads && !excused(c.ID, rule) {
						t.Errorf("%s posts to %s %v, and no fact says that it reads", c.ID, rule, header)
					}
				}
			}
		}
	}
}

// What a read capability admits, nothing that writes or administers can be
// reached by: paths are drawn from the facts' rules, with the words of the
// provider's other rules in place of '*' and below a prefix, and judged by
// policy. Of several endpoints that a path belongs to, the most specific one
// counts.
func TestNothingThatWritesIsReachedByReading(t *testing.T) {
	t.Parallel()
	r, known := load(t), facts(t)
	excused, reads := exceptions(t, kindReach), exceptions(t, kindPost)
	paths := 0
	for _, id := range r.Providers() {
		f := known[id]
		if f == nil {
			continue
		}
		p := r.Provider(id)
		endpoints := f.endpoints(t)
		all, _ := compile(p, r)
		draw := rand.New(rand.NewPCG(uint64(len(id)), uint64(id[0]))) // the same paths every time
		words := segments(p, endpoints)
		for i := range endpoints {
			e := &endpoints[i]
			if e.access == "read" {
				continue
			}
			for _, rule := range e.rules {
				for range 30 {
					path := drawPath(draw, rule, words)
					for _, method := range e.methods {
						paths++
						var header *api.Header
						var headers []api.Header
						if len(e.headers) > 0 {
							header = &e.headers[draw.IntN(len(e.headers))]
							headers = []api.Header{*header}
						}
						slashes := *all[0].rules
						slashes.Slashes = true
						q := request(method, path, headers, slashes)
						// For the facts an escaped slash is a character like others.
						plain := q
						if strings.Contains(path, "%2F") {
							plain = request(method, strings.ReplaceAll(path, "%2F", "-"), headers, slashes)
						}
						if q == nil || !changes(e, method) || readsBest(endpoints, e, plain, header) {
							continue
						}
						for _, c := range all {
							// Where an endpoint is mixed, the body says which of both a call is.
							if c.Access != "read" || !e.sameHost(p, c.hosts) || e.access == "mixed" && c.Operation != nil {
								continue
							}
							if slices.ContainsFunc(c.policy.Paths, func(r policy.PathRule) bool { return r.Match(q) && reads(c.ID, r.String()) }) {
								continue
							}
							if _, ok := c.policy.Admits(q); ok && !excused(c.ID, e.id) {
								t.Errorf("%s reads, and admits %s %s of %s, which is %s", c.ID, method, path, e.id, e.access)
							}
						}
					}
				}
			}
		}
	}
	if paths < 10_000 {
		t.Errorf("only %d paths were drawn", paths)
	}
}

// Of the operations that a reading capability admits none writes: no mutation,
// and no method of a node by which it is known to sign, send, pay or administer.
func TestReadingOperationsRead(t *testing.T) {
	r := load(t)
	writing := strings.Fields(`eth_sendRawTransaction eth_sendRawTransactionSync eth_sendRawTransactionConditional eth_sendTransaction eth_sendPrivateTransaction eth_sendPrivateRawTransaction
		eth_cancelPrivateTransaction eth_sendBundle eth_sendUserOperation eth_sign eth_signTransaction eth_signTypedData eth_signTypedData_v4 eth_submitWork eth_submitHashrate
		eth_resend eth_setGasPrice personal_sign personal_unlockAccount personal_sendTransaction personal_newAccount personal_importRawKey admin_addPeer admin_nodeInfo admin_startHTTP
		miner_start miner_setEtherbase engine_newPayloadV3 clique_propose debug_setHead debug_chaindbCompact debug_freeOSMemory debug_writeBlockProfile debug_cpuProfile txpool_content
		wallet_sendPreparedCalls wallet_createSession wallet_requestAccount wallet_prepareCalls alchemy_requestGasAndPaymasterAndData alchemy_requestPaymasterAndData alchemy_requestFeePayer
		sendTransaction requestAirdrop sendBundle starknet_addInvokeTransaction starknet_addDeclareTransaction starknet_addDeployAccountTransaction zks_sendRawTransactionWithDetailedOutput
		anvil_setBalance hardhat_setBalance evm_mine eth_subscribe author_submitExtrinsic sui_executeTransactionBlock broadcast_tx_sync`)
	split := 0
	for _, id := range r.Providers() {
		all, _ := compile(r.Provider(id), r)
		for _, c := range all {
			rule := c.policy.Operation
			if rule == nil {
				continue
			}
			split++
			if c.Access != "read" {
				continue
			}
			for _, body := range []string{`{"query":"mutation { a }"}`, `{"query":"{ a } mutation B { b }","operationName":"A"}`} {
				q := request("POST", "/x", typed(nil, body), policy.Rules{})
				if o, err := rule.Read(q, []byte(body)); err == nil && rule.Admits(o) {
					t.Errorf("%s reads, and admits %s", c.ID, body)
				}
			}
			for _, method := range writing {
				body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":[]}`, method)
				q := request("POST", "/x", typed(nil, body), policy.Rules{})
				if o, err := rule.Read(q, []byte(body)); err == nil && rule.Admits(o) {
					t.Errorf("%s reads, and admits %s", c.ID, method)
				}
			}
		}
	}
	if split < 20 {
		t.Errorf("only %d capabilities are told by their bodies", split)
	}
}

// changes says whether a method of an endpoint does what its access says: what
// writes in several ways may be read, too.
func changes(e *endpoint, method string) bool {
	if e.access == "admin" || method != "GET" && method != "HEAD" {
		return true
	}
	return !slices.ContainsFunc(e.methods, func(m string) bool { return m != "GET" && m != "HEAD" })
}

// readsBest says whether an endpoint that reads is the one for a request.
func readsBest(endpoints []endpoint, e *endpoint, r *policy.Request, header *api.Header) bool {
	rank, _ := e.admits(r, header)
	return slices.ContainsFunc(endpoints, func(o endpoint) bool {
		other, ok := o.admits(r, header)
		return ok && o.access == "read" && other >= rank
	})
}

// segments are the words of a provider's rules, facts' and files'.
func segments(p *registry.Provider, endpoints []endpoint) []string {
	var words []string
	add := func(rules []string) {
		for _, rule := range rules {
			for w := range strings.SplitSeq(strings.TrimPrefix(rule, "="), "/") {
				if w != "" && !strings.Contains(w, "*") && !slices.Contains(words, w) {
					words = append(words, w)
				}
			}
		}
	}
	for i := range p.Capabilities {
		add(p.Capabilities[i].Paths)
	}
	for i := range endpoints {
		add(endpoints[i].rules)
	}
	return append(words, "me", "42", "a-b_c.d", "q7w2", "a%2Fb", "a%2Fb%2Fc.d")
}

// drawPath is a path that a rule admits.
func drawPath(draw *rand.Rand, rule string, words []string) string {
	word := func() string {
		if draw.IntN(2) == 0 {
			return fmt.Sprintf("x%d", draw.IntN(1000))
		}
		return words[draw.IntN(len(words))]
	}
	path, exact := strings.CutPrefix(rule, "=")
	for strings.Contains(path, "*") {
		path = strings.Replace(path, "*", word(), 1)
	}
	if strings.HasSuffix(path, "/") && !exact {
		path += word()
	}
	for !exact && draw.IntN(3) > 0 {
		path = strings.TrimSuffix(path, "/") + "/" + word()
	}
	return path
}

// Whatever the facts name is in the registry, or left out by name with what
// there is instead; nothing is both.
func TestNothingIsLeftOutInSilence(t *testing.T) {
	r := load(t)
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "registry", "left-out.md"))
	if err != nil {
		t.Fatal(err)
	}
	leftOut := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		if name, rest, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "` | "); ok && strings.HasPrefix(line, "| `") && len(rest) > 10 {
			leftOut[name] = true
		}
	}
	there := func(id string) bool {
		if !strings.Contains(id, "/") {
			return r.Provider(id) != nil
		}
		_, c := r.Capability(id)
		_, s := r.Set(id)
		return c != nil || s != nil
	}
	check := func(id string) {
		switch {
		case there(id) && leftOut[id]:
			t.Errorf("docs/registry/left-out.md has %s, and so does the registry", id)
		case !there(id) && !leftOut[id]:
			t.Errorf("%s is neither in the registry nor in docs/registry/left-out.md", id)
		}
		delete(leftOut, id)
	}
	for _, f := range facts(t) {
		check(f.ID)
		if r.Provider(f.ID) == nil {
			continue
		}
		for _, e := range f.endpoints(t) {
			check(e.id)
		}
	}
	for name := range leftOut {
		t.Errorf("docs/registry/left-out.md has %s, of which no fact speaks", name)
	}
}

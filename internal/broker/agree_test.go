package broker_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/vault"
)

// Explain and Do agree: on whether a call goes out, on the code and text of
// its error, and on what it becomes.
func TestExplainAndInvokeAgree(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 1_000
	}
	var seen [2]tally
	t.Run("requests", func(t *testing.T) {
		for i := range seen {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				seen[i] = agree(t, uint64(i), n/len(seen))
			})
		}
	})
	if testing.Short() || t.Failed() {
		return // too few to meet everything
	}
	for _, code := range []api.Code{
		"", api.InvalidRequest, api.CapabilityNotFound, api.CredentialNotFound, api.CredentialAmbiguous, api.PolicyViolation, api.RequestTooLarge, api.RateLimited,
	} {
		if count := seen[0].codes[code] + seen[1].codes[code]; count < n/1000 {
			t.Errorf("%q came up %d times of %d", code, count, n)
		}
	}
	for _, step := range []string{"request", "capability", "canonical request", "member", "enabled", "credential", "rules", "policy", "query", "body size", "operation", "body fields", "rate", "instead"} {
		if seen[0].steps[step]+seen[1].steps[step] == 0 {
			t.Errorf("nothing failed at %q", step)
		}
	}
}

// A tally is what came up: codes of all, and for the operator the steps that
// failed.
type tally struct {
	codes map[api.Code]int
	steps map[string]int
}

func agree(t *testing.T, seed uint64, n int) tally {
	w := &watch{boot: "boot-1", true: time.Hour}
	v := start(t, aivaulttest.Options{QuotaClock: w.now, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"ok":true}`)
	})})
	manyAccounts(t, v)
	v.API.Record(false)
	rng := rand.New(rand.NewPCG(3, seed))
	seen := tally{map[api.Code]int{}, map[string]int{}}
	for i := range n {
		if i%250 == 0 {
			shuffleState(t, v, rng)
		}
		w.pass(time.Duration(rng.Int64N(int64(time.Second))))
		who, call, body := anyCaller(rng), anyCall(rng), anyBody(rng)
		asked := explain(t, v, who, call, body())
		planned, _, err := do(&v.Process, who, call, body())
		seen.codes[api.CodeOf(err)]++
		if asked.Allowed != (err == nil) {
			t.Fatalf("request %d: explained as %+v, ended with %v\n%+v of %+v", i, asked, err, call, who)
		}
		if !who.Operator {
			want := api.Explanation{Allowed: err == nil}
			if err != nil {
				want.Error = &api.Error{Code: api.CodeOf(err)}
			}
			if d := cmp.Diff(want, asked, cmp.AllowUnexported(api.Error{})); d != "" {
				t.Fatalf("request %d: %s", i, d)
			}
			continue
		}
		if err == nil {
			if *asked.Planned != *planned {
				t.Fatalf("request %d: planned %+v, became %+v", i, asked.Planned, planned)
			}
			continue
		}
		e := api.AsError(err)
		if asked.Error.Code != e.Code || asked.Error.Message != e.Message || asked.Error.Hint != e.Hint || asked.Error.RetryAfterMs != e.RetryAfterMs {
			t.Fatalf("request %d: explained as %+v, refused as %+v\n%+v", i, asked.Error, e, call)
		}
		for _, c := range asked.Checks {
			if c.Result == "failed" {
				seen.steps[c.Name]++
			}
		}
		if asked.Instead != "" {
			seen.steps["instead"]++
			other := call
			other.Capability = asked.Instead
			if again := explain(t, v, who, other, body()); !again.Allowed && call.Request.Method != "" && call.Request.Path != "" {
				t.Fatalf("request %d: %s would not do instead of %s: %v", i, asked.Instead, call.Capability, again.Error)
			}
		}
	}
	return seen
}

// manyAccounts makes accounts in every scope, capabilities of every kind, and
// limits on some of them.
func manyAccounts(t *testing.T, v *aivaulttest.Aivault) {
	acme(t, v, "acme-token-0123456789", bearer())
	v.Create(t, "OPENAI_API_KEY", "sk-test-0123456789")
	v.Create(t, "GITHUB_TOKEN", "ghp-test-0123456789")
	for _, c := range []api.CapabilityCreate{
		{ID: "acme/items", Methods: []string{"GET", "POST"}, Paths: []string{"/items"}},
		{ID: "acme/item", Methods: []string{"GET"}, Paths: []string{"/items/*"}},
		{ID: "acme/one", Methods: []string{"GET"}, Paths: []string{"=/items/1"}},
		{ID: "acme/write", Methods: []string{"POST", "DELETE"}, Paths: []string{"/items"}},
		{ID: "acme/broken", Methods: []string{"GET"}, Paths: []string{"/"}},
	} {
		capability(t, v, c)
	}
	setPolicy(t, v, api.PolicyChange{Capability: "acme/item", RatePerMinute: ptr(6), RatePerCallerPerMinute: ptr(3)})
	setPolicy(t, v, api.PolicyChange{Capability: "acme/items", MaxRequestBodyBytes: ptr(int64(20)), AllowQuery: []string{"page"}, ResponseBlock: []string{"internal"}})
	setPolicy(t, v, api.PolicyChange{Capability: "acme/write", RequireJSON: []api.RequireJSON{{Pointer: "/model", Values: []string{"small"}}}, MaxRequestBodyBytes: ptr(int64(60))})
	setPolicy(t, v, api.PolicyChange{Capability: "openai/models", DenyQuery: []string{"page"}, RatePerCallerPerMinute: ptr(4)})
	tamper(t, v, func(tx *vault.Tx) error {
		tx.State.Policies = append(tx.State.Policies, api.Policy{Capability: "acme/broken", MaxResponseBodyBytes: -1})
		for i, scope := range []string{"workspace:w", "group:w:g", "group:w:h", "group:w:h", "workspace:x"} {
			id, err := addSecret(tx, fmt.Sprintf("ACME_%d", i), scope, fmt.Sprintf("acme-value-%d-0123456789", i), "", "")
			if err != nil {
				return err
			}
			tx.State.Credentials = append(tx.State.Credentials, vault.Credential{
				ID: fmt.Sprintf("acme-%d", i), Provider: "acme", Scope: scope, Secrets: map[string]string{"secret": id}, Auth: ptr(bearer()), Hosts: []string{aivaulttest.CustomHost},
			})
		}
		var field string
		for field = range tx.State.Credentials[1].Secrets { // the only one of openai's
		}
		id, err := addSecret(tx, "OPENAI_W", "workspace:w", "sk-openai-w-0123456789", "openai", field)
		if err != nil {
			return err
		}
		tx.State.Secrets[1].Groups = []string{"group:w:g"}
		tx.State.Credentials = append(tx.State.Credentials, vault.Credential{ID: "openai-w", Provider: "openai", Scope: "workspace:w", Secrets: map[string]string{field: id}, Only: []string{"openai/chat*"}})
		return nil
	})
}

var patterns = []string{"*", "acme/*", "openai/*", "acme/items", "acme/item", "*-read", "github/repos-*", "github/graphql-query", "openai/models", "acme/all"}

// shuffleState sets switches, grants, bindings and the default anew.
func shuffleState(t *testing.T, v *aivaulttest.Aivault, rng *rand.Rand) {
	tamper(t, v, func(tx *vault.Tx) error {
		st := tx.State
		st.Switches, st.Grants, st.Bindings = []api.Switch{}, []api.Grant{}, []api.Binding{}
		st.GrantDefault = pick(rng, api.GrantAllow, api.GrantAllow, api.GrantAllow, api.GrantDeny)
		for range rng.IntN(3) {
			st.Switches = append(st.Switches, api.Switch{Pattern: pick(rng, patterns[1:]...), On: rng.IntN(2) == 0})
		}
		for i := range rng.IntN(8) {
			g := api.Grant{ID: fmt.Sprintf("g%d", i), Capabilities: []string{pick(rng, patterns...), pick(rng, patterns...)}}
			if rng.IntN(3) == 0 {
				g.Consumer.GID = ptr(uint32(rng.IntN(4)))
			} else {
				g.Consumer.UID = ptr(uint32(rng.IntN(4)))
			}
			switch rng.IntN(4) {
			case 0:
				g.WorkspaceID, g.GroupID = "w", pick(rng, "", "g", "h")
				g.StrictScope = rng.IntN(2) == 0
			case 1:
				g.RatePerMinute = 1 + rng.IntN(3)
			}
			st.Grants = append(st.Grants, g)
		}
		seen := map[string]bool{}
		for i := range rng.IntN(5) {
			b := api.Binding{
				ID: fmt.Sprintf("b%d", i), Capability: pick(rng, patterns...), Credential: pick(rng, "acme", "acme-0", "acme-1", "openai", "gone"),
				Scope: pick(rng, "global", "workspace:w", "group:w:g"),
			}
			if rng.IntN(2) == 0 {
				b.Consumer = &api.Consumer{UID: ptr(uint32(rng.IntN(4)))}
			}
			key := fmt.Sprint(b.Capability, b.Scope, b.Consumer != nil)
			if !seen[key] {
				st.Bindings = append(st.Bindings, b)
			}
			seen[key] = true
		}
		return nil
	})
}

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }

func anyCaller(rng *rand.Rand) grant.Caller {
	who := as(uint32(rng.IntN(5)))
	switch rng.IntN(8) {
	case 0:
		who.Groups = nil
	case 1:
		who.Groups = append(who.Groups, uint32(rng.IntN(4)), uint32(rng.IntN(4)))
	case 2, 3, 4, 5:
		who.Operator = true
	}
	return who
}

func anyCall(rng *rand.Rand) api.Call {
	c := api.Call{Capability: pick(rng,
		"acme/all", "acme/items", "acme/item", "acme/one", "acme/write", "acme/broken", "acme/*", "acme/item*", "acme/nothing",
		"openai/models", "openai/chat-completions", "openai/*", "openai/nothing", "openai/codex-responses", "openai/files",
		"github/repos-read", "github/repos", "github/user-read", "stripe/customers-read", "nothing", "", "*", "no/thing", "acme/\x00", strings.Repeat("x", 300),
	)}
	if rng.IntN(3) > 0 { // mostly something that exists
		c.Capability = pick(rng, "acme/all", "acme/items", "acme/item", "acme/write", "acme/*", "openai/models", "openai/*", "github/repos")
	}
	c.Request.Method = pick(rng, "GET", "GET", "GET", "GET", "POST", "POST")
	if rng.IntN(8) == 0 {
		c.Request.Method = pick(rng, "DELETE", "PUT", "", "", "get", "TRACE")
	}
	c.Request.Path = pick(rng,
		"/items", "/items", "/items/1", "/items/1", "/items/2", "/items/1/x", "/v1/models", "/v1/models", "/v1/models/m", "/v1/chat/completions", "/repos/a/b", "/user",
	)
	if rng.IntN(8) == 0 {
		c.Request.Path = pick(rng,
			"/", "/other", "", "?page=1", "/items/../x", "/items/%2e%2e/x", "/items%2f1", "//items", "items", "/items#x", "/items/\u00e9", "/items/a b", "https://evil.test/items",
		)
	}
	if rng.IntN(2) == 0 { // what fits together
		like := pick(rng,
			get("acme/item", "/items/1"), get("acme/item", "/items/2"), get("acme/items", "/items"), get("acme/*", "/items/1"), get("acme/all", "/other"),
			get("openai/models", "/v1/models"), get("openai/*", "/v1/models"), get("github/repos", "/repos/a/b"), post("acme/write", "/items", `{"model":"small"}`),
			anyOperation(rng),
		)
		c.Capability, c.Request = like.Capability, like.Request
	}
	if rng.IntN(4) == 0 {
		c.Request.Path += pick(rng, "?page=1", "?page=1&limit=2", "?drop=1", "?access_token=1", "?PAGE=1", "?%70age=1", "?a=b;c", "?")
	}
	if rng.IntN(8) == 0 {
		c.Request.Headers = api.Headers{{Name: pick(rng, "Accept", "Authorization", "X-Api-Key", "Host", "X-A", "content-type", "Cookie", ""), Value: pick(rng, "application/json", "a", "", "a\r\nb")}}
	}
	if rng.IntN(4) == 0 {
		c.Request.Body = ptr(pick(rng, "", "{}", `{"model":"small"}`, `{"model":"large"}`, `{"model":"small","model":"x"}`, "text", strings.Repeat("x", 70), `{"model":"small","pad":"`+strings.Repeat("x", 60)+`"}`))
	}
	c.WorkspaceID = pick(rng, "", "", "", "", "", "", "w", "w", "w", "w", "x", "y")
	if rng.IntN(30) == 0 {
		c.WorkspaceID = "W!"
	}
	if c.WorkspaceID != "" || rng.IntN(30) == 0 {
		c.GroupID = pick(rng, "", "g", "h", "i")
	}
	if rng.IntN(5) == 0 {
		c.Credential = pick(rng, "acme", "acme-0", "acme-1", "acme-2", "openai", "openai-w", "github", "gone", "\"")
	}
	if rng.IntN(30) == 0 {
		c.TimeoutMs = pick[int64](rng, -1, 60_000, 1<<62)
	}
	return c
}

// anyOperation is a call whose body says what it is.
func anyOperation(rng *rand.Rand) api.Call {
	return post(pick(rng, "github/graphql", "github/graphql", "github/graphql-query", "github/graphql-mutation", "github/*", "github/graphql-*"), "/graphql",
		pick(rng, aQuery, aQuery, aMutation, aMutation, aBoth, `{}`, `[]`, `{"query":"{ a }","extensions":{}}`))
}

// anyBody makes the same body each time that it is asked.
func anyBody(rng *rand.Rand) func() egress.Body {
	text := pick(rng, "", "{}", aQuery, aMutation, `{"model":"small"}`, `{"model":"large"}`, strings.Repeat("x", 21), strings.Repeat("x", 61))
	switch rng.IntN(6) {
	case 0:
		return func() egress.Body { return known(text) }
	case 1:
		return func() egress.Body { return chunked(text) }
	}
	return func() egress.Body { return egress.Body{} }
}

package vault

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/strictjson"
)

// everything is a state in which no member is zero, so that none can be
// forgotten: lists have n entries.
func everything(n int) *State {
	var st State
	number := 0
	fillValue(reflect.ValueOf(&st).Elem(), n, &number)
	return &st
}

// fillValue ends where a type holds another of its kind twice over.
func fillValue(v reflect.Value, n int, number *int) { fillBelow(v, n, number, nil) }

func fillBelow(v reflect.Value, n int, number *int, above []reflect.Type) {
	*number++
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprint("s", *number))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*number))
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*number))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		if recursion(above, v.Type()) > 1 {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		fillBelow(v.Elem(), n, number, append(above, v.Type()))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fillBelow(v.Index(i), n, number, above)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range n {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fillBelow(key, n, number, above)
			fillBelow(value, n, number, above)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fillBelow(v.Field(i), n, number, above)
		}
	default:
		panic("a state has a member of kind " + v.Kind().String())
	}
}

// recursion counts a type among those above.
func recursion(above []reflect.Type, t reflect.Type) (n int) {
	for _, a := range above {
		if a == t {
			n++
		}
	}
	return n
}

// scramble changes whatever can be reached.
func scramble(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "!")
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1000)
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(v.Uint() + 1000)
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Pointer:
		if !v.IsNil() {
			scramble(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			scramble(v.Index(i))
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			other := reflect.New(v.Type().Elem()).Elem()
			other.Set(v.MapIndex(k))
			scramble(other)
			v.SetMapIndex(k, other)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			scramble(v.Field(i))
		}
	}
}

func TestACloneSharesNothing(t *testing.T) {
	t.Parallel()
	st := everything(2)
	copied := st.clone()
	if d := cmp.Diff(st, copied); d != "" {
		t.Fatal(d)
	}
	scramble(reflect.ValueOf(copied).Elem())
	if d := cmp.Diff(everything(2), st); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(&State{}, (&State{}).clone()); d != "" {
		t.Error(d) // nil stays nil
	}
}

// members lists what a type has in JSON, one line a member. Of a type within
// itself it lists no more than that.
func members(t reflect.Type, path string, out *strings.Builder) { membersBelow(t, path, out, nil) }

func membersBelow(t reflect.Type, path string, out *strings.Builder, above []reflect.Type) {
	if t.Kind() == reflect.Struct {
		if recursion(above, t) > 0 {
			return
		}
		above = append(above, t)
	}
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
			fmt.Fprintf(out, "%s.%s %s %s\n", path, name, f.Type.Kind(), opts)
			membersBelow(f.Type, path+"."+name, out, above)
		}
	case reflect.Slice:
		membersBelow(t.Elem(), path+"[]", out, above)
	case reflect.Map:
		membersBelow(t.Elem(), path+"{}", out, above)
	case reflect.Pointer:
		membersBelow(t.Elem(), path, out, above)
	}
}

// What a version's states have is fixed: a member that api gains later, say,
// is a new version, because an older aivault must refuse it.
func TestTheMembersOfAVersionAreFixed(t *testing.T) {
	t.Parallel()
	for name, of := range map[string]reflect.Type{"state-v1.txt": reflect.TypeFor[stateV1](), "state-v2.txt": reflect.TypeFor[stateV2](), "state-v3.txt": reflect.TypeFor[State]()} {
		var out strings.Builder
		members(of, "", &out)
		path := filepath.Join("testdata", name)
		if *updateVectors {
			must(t, os.WriteFile(path, []byte(out.String()), 0o644))
		}
		if d := cmp.Diff(string(read(t, path)), out.String()); d != "" {
			t.Errorf("%s is fixed once it was released; what is new needs a new version:\n%s", name, d)
		}
	}
}

// The bound is one: what it says fits can be written.
func TestSizeIsABound(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 3} {
		st := everything(n)
		plain, err := strictjson.Marshal(st)
		must(t, err)
		if got := st.size(); got < len(plain) {
			t.Errorf("%d entries: %d is less than %d", n, got, len(plain))
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		st := everything(rapid.IntRange(1, 2).Draw(t, "entries"))
		long := strings.Repeat(rapid.SampledFrom([]string{"x", "\x01", "\"", "\u00e9", "\u2028", "\\"}).Draw(t, "char"), rapid.IntRange(0, 20_000).Draw(t, "length"))
		for _, s := range longStrings(st) {
			if rapid.Bool().Draw(t, "long") {
				*s = long
			}
		}
		plain, err := strictjson.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		if got := st.size(); got < len(plain) {
			t.Fatalf("%d is less than %d", got, len(plain))
		}
	})
}

// longStrings are the members that a request can make long.
func longStrings(st *State) (out []*string) {
	list := func(s []string) {
		for i := range s {
			out = append(out, &s[i])
		}
	}
	for i := range st.Secrets {
		list(st.Secrets[i].Aliases)
		list(st.Secrets[i].Groups)
	}
	for i := range st.Credentials {
		c := &st.Credentials[i]
		list(c.Hosts)
		list(c.PublicParts)
		list(c.Only)
		out = append(out, &c.CAPEM, &c.Auth.ValueTemplate, &c.Auth.PrefixTemplate, &c.Auth.Headers[0].ValueTemplate, &c.Auth.Params[0].Name)
		out = append(out, &c.Auth.HMAC.Sign, &c.Auth.HMAC.Timestamp.Template, &c.Auth.OAuth2.TokenEndpoint, &c.Auth.MTLS.Plus.HeaderName, &c.Auth.TokenExchange.TokenField)
		list(c.Auth.SigV4.Fields)
		list(c.Auth.OAuth2.Scopes)
		list(c.Token.Repositories)
		out = append(out, &c.Token.ExternalID, &c.Token.Subject)
	}
	for i := range st.Capabilities {
		list(st.Capabilities[i].Paths)
		list(st.Capabilities[i].IssuesToken)
	}
	for i := range st.Switches {
		out = append(out, &st.Switches[i].Pattern)
	}
	for i := range st.Policies {
		p := &st.Policies[i]
		list(p.ResponseBlock)
		list(p.AllowQuery)
		list(p.DenyQuery)
		out = append(out, &p.RequireJSON[0].Pointer)
		list(p.RequireJSON[0].Values)
	}
	for i := range st.Grants {
		list(st.Grants[i].Capabilities)
	}
	for i := range st.Tokens {
		list(st.Tokens[i].Scopes)
		out = append(out, &st.Tokens[i].Account)
	}
	return out
}

// A vault that is full takes nothing more, by whatever entries, and can be
// made smaller.
func TestAFullVault(t *testing.T) {
	t.Parallel()
	v, _ := fileVault(t)
	full := newState()
	full.Credentials = []Credential{{ID: "large", Scope: "global", CAPEM: strings.Repeat("x", maxFile/6)}}
	full.Secrets = []Secret{{ID: "s", Scope: "global", Version: 1}}
	base := mustSnapshot(t, v)
	base = newSnapshot(base.gen, base.hash, base.size, base.header, full, base.keys)
	for name, c := range map[string]struct {
		edit func(st *State)
		full bool
	}{
		"nothing":      {func(*State) {}, false},
		"a grant":      {func(st *State) { st.Grants = append(st.Grants, api.Grant{ID: "g", Consumer: *uid(1)}) }, true},
		"a binding":    {func(st *State) { st.Bindings = append(st.Bindings, api.Binding{ID: "b", Scope: "global"}) }, true},
		"a policy":     {func(st *State) { st.Policies = append(st.Policies, api.Policy{Capability: "c"}) }, true},
		"a switch":     {func(st *State) { st.Switches = append(st.Switches, api.Switch{Pattern: "p"}) }, true},
		"a capability": {func(st *State) { st.Capabilities = append(st.Capabilities, Capability{ID: "c"}) }, true},
		"a token":      {func(*State) {}, true},
		"a pattern":    {func(st *State) { st.Credentials[0].Only = []string{"p"} }, true},
		"a byte less":  {func(st *State) { st.Credentials[0].CAPEM = st.Credentials[0].CAPEM[1:] }, false},
	} {
		tx := v.newTx(base, &audit.Record{})
		c.edit(tx.State)
		if name == "a token" {
			must(t, tx.SealToken(&Token{Key: tokenKey(1), Sources: map[string]uint64{"s": 1}, Version: 1}, valuesOf(vectorTokens[tokenKey(1)])))
		}
		if err := tx.finish(base); (err != nil) != c.full || err != nil && api.CodeOf(err) != api.InvalidRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func uid(n uint32) *api.Consumer { return &api.Consumer{UID: &n} }
func gid(n uint32) *api.Consumer { return &api.Consumer{GID: &n} }

func TestCheck(t *testing.T) {
	t.Parallel()
	group := &api.Consumer{UID: uid(1).UID, GID: gid(1).GID}
	for name, c := range map[string]struct {
		edit func(st *State)
		ok   bool
	}{
		"as it is":                      {func(*State) {}, true},
		"attached to a group":           {func(st *State) { st.Secrets[0].Groups = []string{"group:w:g", "group:w:h", "group:v:g"} }, true},
		"a workspace's secret attached": {func(st *State) { st.Secrets[1].Groups = []string{"group:w:g", "group:w:h"} }, true},
		"attached to another workspace": {func(st *State) { st.Secrets[1].Groups = []string{"group:v:g"} }, false},
		"a group's secret elsewhere":    {func(st *State) { st.Secrets[1].Scope, st.Secrets[1].Groups = "group:w:g", []string{"group:v:g"} }, false},
		"attached to a workspace":       {func(st *State) { st.Secrets[0].Groups = []string{"workspace:w"} }, false},
		"attached to everything":        {func(st *State) { st.Secrets[0].Groups = []string{"global"} }, false},
		"attached to nothing":           {func(st *State) { st.Secrets[0].Groups = []string{""} }, false},
		"attached twice":                {func(st *State) { st.Secrets[0].Groups = []string{"group:w:g", "group:w:g"} }, false},
		"a secret without id":           {func(st *State) { st.Secrets[0].ID = "" }, false},
		"two credentials":               {func(st *State) { st.Credentials = append(st.Credentials, st.Credentials[0]) }, false},
		"two capabilities":              {func(st *State) { st.Capabilities = append(st.Capabilities, st.Capabilities[0]) }, false},
		"two policies of a capability":  {func(st *State) { st.Policies = append(st.Policies, api.Policy{Capability: "a/b"}) }, false},
		"a policy of nothing":           {func(st *State) { st.Policies[0].Capability = "" }, false},
		"a binding without id":          {func(st *State) { st.Bindings[0].ID = "" }, false},
		"two bindings of one id":        {func(st *State) { st.Bindings[1].ID = "b1" }, false},
		"two bindings of one place":     {func(st *State) { st.Bindings[1].Consumer = nil }, false},
		"one place by another name":     {func(st *State) { st.Bindings[0].Consumer = &api.Consumer{UID: uid(1).UID, User: "alias"} }, false},
		"a user and a group of one id":  {func(st *State) { st.Bindings[0].Consumer = gid(1) }, true},
		"a binding nowhere":             {func(st *State) { st.Bindings[0].Scope = "galaxy" }, false},
		"a binding for nobody":          {func(st *State) { st.Bindings[0].Consumer = &api.Consumer{User: "agent"} }, false},
		"a binding for both":            {func(st *State) { st.Bindings[0].Consumer = group }, false},
		"no default":                    {func(st *State) { st.GrantDefault = "" }, false},
		"another default":               {func(st *State) { st.GrantDefault = "maybe" }, false},
		"denied by default":             {func(st *State) { st.GrantDefault = api.GrantDeny }, true},
		"two grants of one id":          {func(st *State) { st.Grants[1].ID = "g1" }, false},
		"a grant without id":            {func(st *State) { st.Grants[0].ID = "" }, false},
		"a grant for nobody":            {func(st *State) { st.Grants[0].Consumer = api.Consumer{} }, false},
		"a grant for both":              {func(st *State) { st.Grants[0].Consumer = *group }, false},
		"a grant for root":              {func(st *State) { st.Grants[0].Consumer = *uid(0) }, true},
		"a group without a workspace":   {func(st *State) { st.Grants[0].WorkspaceID = "" }, false},
		"a workspace that is none":      {func(st *State) { st.Grants[0].WorkspaceID = "W" }, false},
		"a workspace with a group in":   {func(st *State) { st.Grants[1].WorkspaceID, st.Grants[1].GroupID = "w:g", "" }, false},
		"strict about nothing":          {func(st *State) { st.Grants[1].StrictScope = true }, false},
		"a negative rate":               {func(st *State) { st.Grants[0].RatePerMinute = -1 }, false},
		"a negative end":                {func(st *State) { st.Grants[0].ExpiresAtMs = -1 }, false},
		"a grant of nothing":            {func(st *State) { st.Grants[0].Capabilities = nil }, true},

		"two tokens of one key":        {func(st *State) { st.Tokens = append(st.Tokens, st.Tokens[0]) }, false},
		"a token without a key":        {func(st *State) { st.Tokens[0].Key = "" }, false},
		"a token's key that is a path": {func(st *State) { st.Tokens[0].Key = "../../" + st.Tokens[0].Key[6:] }, false},
		"a token of nobody":            {func(st *State) { st.Tokens[0].Sources = nil }, false},
		"a token without a version":    {func(st *State) { st.Tokens[0].Version = 0 }, false},

		// What has gone bad breaks its own calls, not the vault.
		"a stale token":    {func(st *State) { st.Tokens[0].Sources["gone"] = 1 }, true},
		"a damaged token":  {func(st *State) { st.Tokens[0].Value = "!" }, true},
		"a bad host":       {func(st *State) { st.Credentials[0].Hosts = []string{"*.bad..host:x"} }, true},
		"a bad parameter":  {func(st *State) { st.Credentials[0].HostParams = map[string]string{"shop": "../x"} }, true},
		"a bad pattern":    {func(st *State) { st.Credentials[0].Only = []string{"[", ""} }, true},
		"a bad policy":     {func(st *State) { st.Policies[0].RatePerMinute = -5; st.Policies[0].RequireJSON[0].Pointer = "model" }, true},
		"a bad switch":     {func(st *State) { st.Switches[0].Pattern = "//" }, true},
		"a lost binding":   {func(st *State) { st.Bindings[0].Credential = "gone" }, true},
		"a lost secret":    {func(st *State) { st.Credentials[0].Secrets = map[string]string{"secret": "gone"} }, true},
		"an odd grant":     {func(st *State) { st.Grants[0].Capabilities = []string{"", "**", "\u00e9"} }, true},
		"an odd operation": {func(st *State) { st.Capabilities[0].Methods, st.Capabilities[0].Paths = []string{""}, nil }, true},
	} {
		t.Run(name, func(t *testing.T) {
			st := someState()
			c.edit(st)
			plain, err := encodeState(st)
			if (err == nil) != c.ok {
				t.Fatalf("encode: %v", err)
			}
			if err != nil {
				plain, err = strictjson.Marshal(st)
				must(t, err)
			}
			if _, err := decodeState(plain); (err == nil) != c.ok {
				t.Errorf("decode: %v", err)
			}
		})
	}
}

// someState has entries of every kind.
func someState() *State {
	st := newState()
	st.Secrets = []Secret{{ID: "s1", Scope: "global", Version: 1}, {ID: "s2", Scope: "workspace:w", Version: 1}}
	st.Credentials = []Credential{{ID: "c1", Provider: "p", Scope: "global", Secrets: map[string]string{"secret": "s1"}}}
	st.Capabilities = []Capability{{ID: "a/b", Provider: "a", Hosts: []string{"h"}, Methods: []string{"GET"}, Paths: []string{"/"}}}
	st.Switches = []api.Switch{{Pattern: "a/*", On: true}}
	st.Policies = []api.Policy{{Capability: "a/b", RatePerMinute: 5, RequireJSON: []api.RequireJSON{{Pointer: "/model", Values: []string{"x"}}}}}
	st.Bindings = []api.Binding{{ID: "b1", Capability: "a/*", Credential: "c1", Scope: "global"},
		{ID: "b2", Capability: "a/*", Credential: "c1", Scope: "global", Consumer: uid(1)}}
	st.Grants = []api.Grant{{ID: "g1", Consumer: *uid(1), Capabilities: []string{"a/*"}, WorkspaceID: "w", GroupID: "g", StrictScope: true},
		{ID: "g2", Consumer: *gid(1), Capabilities: []string{}}}
	st.Tokens = []Token{{Key: tokenKey(1), Sources: map[string]uint64{"s1": 1}, Version: 1}}
	return st
}

// A vault that is still empty keeps what narrows its calls when its key is
// chosen anew, and loses what would widen them.
func TestInitKeepsWhatNarrowsTheCalls(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	_, err := v.Update(t.Context(), audit.Record{Event: audit.GrantDefaultSet, Caller: who}, func(tx *Tx) error {
		some := someState()
		tx.State.Switches, tx.State.Policies, tx.State.Grants, tx.State.GrantDefault = some.Switches, some.Policies, some.Grants, api.GrantDeny
		tx.State.Capabilities, tx.State.Bindings = some.Capabilities, some.Bindings
		return nil
	})
	must(t, err)
	must(t, v.Init(t.Context(), who, passRequest("p")))
	want := someState()
	want.Secrets, want.Credentials, want.Capabilities, want.Bindings, want.Tokens, want.GrantDefault = []Secret{}, []Credential{}, []Capability{}, []api.Binding{}, []Token{}, api.GrantDeny
	x := open(t, cfg)
	_, err = x.Unlock(t.Context(), who, pass("p"), 0)
	must(t, err)
	got := mustSnapshot(t, x).State().clone()
	got.AuditKey, got.AuditHead = "", audit.Head{}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// The log alone tells that a vault has held a secret, one or several.
func TestImportedSecretsAreSecrets(t *testing.T) {
	t.Parallel()
	for _, event := range []string{audit.SecretCreated, audit.SecretsImported, audit.SecretDeleted, audit.SecretAttached} {
		v, _ := fileVault(t)
		log, err := v.Audit(t.Context())
		must(t, err)
		if _, err := neverUsed(log); err != nil {
			t.Fatal(err)
		}
		_, err = log.AppendSync(t.Context(), audit.Record{Event: event})
		must(t, err)
		if _, err := neverUsed(log); err != errUsed {
			t.Errorf("%s: %v", event, err)
		}
	}
}

package vault

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/strictjson"
)

const stateOfV1 = `{"version":1,` +
	`"secrets":[{"id":"s","name":"S","aliases":["A"],"scope":"workspace:w","pin":"shopify","pinTenant":"acme","field":"secret","version":3,"createdAtMs":1,"rotatedAtMs":2,"dek":"D","value":"V"}],` +
	`"credentials":[{"id":"c","provider":"p","scope":"global","auto":true,"secrets":{"secret":"s"},"auth":{"type":"header","headerName":"X"},"hosts":["h:1"],"caPem":"P","allowPrivateNetwork":true,"allowPorts":[1],"createdAtMs":4}],` +
	`"capabilities":[{"id":"p/x","provider":"p","credential":"c","hosts":["h:1"],"methods":["GET"],"paths":["/"],"createdAtMs":5}],` +
	`"auditKey":"K","auditHead":{"seq":6,"hash":"H","file":"F","offset":7}}`

const stateOfV2 = `{"version":2,` +
	`"secrets":[{"id":"s","name":"S","scope":"workspace:w","groups":["group:w:g"],"version":3,"createdAtMs":1,"dek":"D","value":"V"}],` +
	`"credentials":[{"id":"c","provider":"p","scope":"global","secrets":{"secret":"s"},"auth":{"type":"header","headerName":"X"},"hosts":["h:1"],"allowHttp":true,"publicParts":["x"],"hostParams":{"shop":"x"},"only":["x"],"createdAtMs":4}],` +
	`"capabilities":[{"id":"p/x","provider":"p","hosts":["h:1"],"methods":["GET"],"paths":["/"],"createdAtMs":5}],` +
	`"switches":[{"pattern":"p/x","on":false}],"policies":[{"capability":"p/x","rateLimitPerMinute":6}],` +
	`"bindings":[{"bindingId":"b","capability":"a/b","credential":"c","scope":"global","createdAtMs":7}],` +
	`"grants":[{"grantId":"g","consumer":{"uid":1},"capabilities":["a/b"],"createdAtMs":8}],` +
	`"grantDefault":"deny","auditKey":"K","auditHead":{"seq":6,"hash":"H","file":"F","offset":7}}`

func TestMigrationOfV2(t *testing.T) {
	t.Parallel()
	got, err := decodeState([]byte(stateOfV2))
	must(t, err)
	want := &State{Version: 3,
		Secrets: []Secret{{ID: "s", Name: "S", Scope: "workspace:w", Groups: []string{"group:w:g"}, Version: 3, CreatedAtMs: 1, DEK: "D", Value: "V"}},
		Credentials: []Credential{{ID: "c", Provider: "p", Scope: "global", Secrets: map[string]string{"secret": "s"},
			Auth: &api.AuthSpec{Type: "header", HeaderName: "X"}, Hosts: []string{"h:1"}, AllowHTTP: true, PublicParts: []string{"x"},
			HostParams: map[string]string{"shop": "x"}, Only: []string{"x"}, CreatedAtMs: 4}},
		Capabilities: []Capability{{ID: "p/x", Provider: "p", Hosts: []string{"h:1"}, Methods: []string{"GET"}, Paths: []string{"/"}, CreatedAtMs: 5}},
		Switches:     []api.Switch{{Pattern: "p/x"}}, Policies: []api.Policy{{Capability: "p/x", RatePerMinute: 6}},
		Bindings: []api.Binding{{ID: "b", Capability: "a/b", Credential: "c", Scope: "global", CreatedAtMs: 7}},
		Grants:   []api.Grant{{ID: "g", Consumer: *uid(1), Capabilities: []string{"a/b"}, CreatedAtMs: 8}},
		Tokens:   []Token{}, GrantDefault: "deny",
		AuditKey: "K", AuditHead: audit.Head{Seq: 6, Hash: "H", File: "F", Offset: 7}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestMigrationOfV1(t *testing.T) {
	t.Parallel()
	got, err := decodeState([]byte(stateOfV1))
	must(t, err)
	want := &State{Version: 3,
		Secrets: []Secret{{ID: "s", Name: "S", Aliases: []string{"A"}, Scope: "workspace:w", Pin: "shopify", PinTenant: "acme", Field: "secret",
			Version: 3, CreatedAtMs: 1, RotatedAtMs: 2, DEK: "D", Value: "V"}},
		Credentials: []Credential{{ID: "c", Provider: "p", Scope: "global", Auto: true, Secrets: map[string]string{"secret": "s"},
			Auth: &api.AuthSpec{Type: "header", HeaderName: "X"}, Hosts: []string{"h:1"}, CAPEM: "P", AllowPrivateNetwork: true, AllowPorts: []int{1}, CreatedAtMs: 4}},
		Capabilities: []Capability{{ID: "p/x", Provider: "p", Credential: "c", Hosts: []string{"h:1"}, Methods: []string{"GET"}, Paths: []string{"/"}, CreatedAtMs: 5}},
		Switches:     []api.Switch{}, Policies: []api.Policy{}, Bindings: []api.Binding{}, Grants: []api.Grant{}, Tokens: []Token{}, GrantDefault: "allow",
		AuditKey: "K", AuditHead: audit.Head{Seq: 6, Hash: "H", File: "F", Offset: 7}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	// Lists that version 1 left out.
	got, err = decodeState([]byte(`{"version":1,"auditKey":"","auditHead":{"seq":0,"hash":"","file":"","offset":0}}`))
	must(t, err)
	if d := cmp.Diff(newState(), got); d != "" {
		t.Error(d)
	}
}

// A state of one version holds nothing of another.
func TestVersionsDoNotMix(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string][2]string{
		"no version":      {`"version":1,`, ``},
		"version 0":       {`"version":1,`, `"version":0,`},
		"version 2":       {`"version":1,`, `"version":2,`},
		"version 3":       {`"version":1,`, `"version":3,`},
		"version 4":       {`"version":1,`, `"version":4,`},
		"tokens":          {`"auditKey"`, `"tokens":[],"auditKey"`},
		"new auth":        {`"auth":{"type":"header",`, `"auth":{"type":"header","sigv4":null,`},
		"issued tokens":   {`"paths":["/"]`, `"paths":["/"],"issuesToken":[]`},
		"grants":          {`"auditKey"`, `"grants":[],"auditKey"`},
		"null grants":     {`"auditKey"`, `"grants":null,"auditKey"`},
		"switches":        {`"auditKey"`, `"switches":[],"auditKey"`},
		"policies":        {`"auditKey"`, `"policies":[],"auditKey"`},
		"bindings":        {`"auditKey"`, `"bindings":[],"auditKey"`},
		"grant default":   {`"auditKey"`, `"grantDefault":"deny","auditKey"`},
		"attached groups": {`"pin":`, `"groups":["group:w:g"],"pin":`},
		"plain http":      {`"allowPorts":`, `"allowHttp":true,"allowPorts":`},
		"public parts":    {`"allowPorts":`, `"publicParts":["x"],"allowPorts":`},
		"host parameters": {`"allowPorts":`, `"hostParams":{"shop":"x"},"allowPorts":`},
		"only":            {`"allowPorts":`, `"only":["x"],"allowPorts":`},
		"unknown":         {`"allowPorts":`, `"more":1,"allowPorts":`},
	} {
		if !strings.Contains(stateOfV1, edit[0]) {
			t.Fatalf("%s: nothing to edit", name)
		}
		if _, err := decodeState([]byte(strings.Replace(stateOfV1, edit[0], edit[1], 1))); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := decodeState([]byte(stateOfV2)); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string][2]string{
		"no version":       {`"version":2,`, ``},
		"version 1":        {`"version":2,`, `"version":1,`},
		"version 3":        {`"version":2,`, `"version":3,`},
		"tokens":           {`"grantDefault"`, `"tokens":[],"grantDefault"`},
		"null tokens":      {`"grantDefault"`, `"tokens":null,"grantDefault"`},
		"no grants":        {`"grants":[{"grantId":"g","consumer":{"uid":1},"capabilities":["a/b"],"createdAtMs":8}],`, ``},
		"null bindings":    {`"bindings":[{"bindingId":"b","capability":"a/b","credential":"c","scope":"global","createdAtMs":7}]`, `"bindings":null`},
		"token options":    {`"only":["x"]`, `"only":["x"],"token":{"subject":"a@b"}`},
		"issued tokens":    {`"paths":["/"]`, `"paths":["/"],"issuesToken":["/token"]`},
		"sigv4":            {`"auth":{"type":"header",`, `"auth":{"type":"header","sigv4":{"fields":["a"],"service":"s3","region":"r"},`},
		"hmac":             {`"auth":{"type":"header",`, `"auth":{"type":"header","hmac":{"algorithm":"sha256","output":{"in":"header","name":"X"}},`},
		"mtls":             {`"auth":{"type":"header",`, `"auth":{"type":"header","mtls":{"certField":"a","keyField":"b"},`},
		"oauth2":           {`"auth":{"type":"header",`, `"auth":{"type":"header","oauth2":{"fields":["a"],"grantType":"refresh_token","tokenEndpoint":"https://t.test/","headers":[]},`},
		"a token exchange": {`"auth":{"type":"header",`, `"auth":{"type":"header","tokenExchange":{"tokenEndpoint":"https://t.test/","bodyFormat":"json","body":{},"tokenField":"t","headers":[]},`},
	} {
		if !strings.Contains(stateOfV2, edit[0]) {
			t.Fatalf("%s: nothing to edit", name)
		}
		if _, err := decodeState([]byte(strings.Replace(stateOfV2, edit[0], edit[1], 1))); err == nil {
			t.Errorf("version 2, %s: accepted", name)
		}
	}
	plain, err := encodeState(newState())
	must(t, err)
	for _, list := range []string{"secrets", "credentials", "capabilities", "switches", "policies", "bindings", "grants", "tokens"} {
		whole := `"` + list + `":[],`
		if !strings.Contains(string(plain), whole) {
			t.Fatalf("%s does not hold %s", plain, whole)
		}
		for _, bad := range []string{"", `"` + list + `":null,`, `"` + list + `":{},`} {
			if _, err := decodeState([]byte(strings.Replace(string(plain), whole, bad, 1))); err == nil {
				t.Errorf("%s for %s: accepted", bad, whole)
			}
		}
	}
}

// A vault of an older version opens, stays as it is on disk until it changes,
// and is one of the present version then.
func TestAVaultOfAnOlderVersion(t *testing.T) {
	for name, file := range map[string]string{"1": vectorFileV1, "2": vectorFileV2} {
		t.Run(name, func(t *testing.T) { t.Parallel(); testOlderVault(t, file) })
	}
}

func testOlderVault(t *testing.T, file string) {
	var all vectors
	must(t, strictjson.Unmarshal(read(t, file), &all))
	e := all.Vaults[0]
	cfg := lay(t, e.Files)
	v := open(t, cfg)
	s := mustSnapshot(t, v)
	if s.State().Version != 3 || s.State().GrantDefault == "" || s.State().Tokens == nil {
		t.Errorf("state = %+v", s.State())
	}
	doc := cfg.Dir + "/vault.aiv"
	if string(read(t, doc)) != string(e.Files["vault.aiv"]) {
		t.Error("to open the vault changed it")
	}
	_, err := v.Update(t.Context(), audit.Record{Event: audit.GrantDefaultSet, Caller: who}, func(tx *Tx) error {
		tx.State.GrantDefault = api.GrantDeny
		return nil
	})
	must(t, err)
	if plain := plaintext(t, read(t, doc), mustSnapshot(t, v).keys); !strings.HasPrefix(plain, `{"version":3,`) || !strings.Contains(plain, `"tokens":[],"grantDefault":"deny"`) {
		t.Errorf("state = %s", plain)
	}
	again := open(t, cfg)
	for id, want := range e.Values {
		wantValue(t, again, id, want)
	}
	if got := mustSnapshot(t, again).State().GrantDefault; got != api.GrantDeny {
		t.Errorf("default = %s", got)
	}

	// So does a rotation, which copies the state as it is.
	v = open(t, lay(t, e.Files))
	must(t, v.Rotate(t.Context(), who, keysource.Request{}))
	if plain := plaintext(t, read(t, v.path("vault.aiv")), mustSnapshot(t, v).keys); !strings.HasPrefix(plain, `{"version":3,`) {
		t.Errorf("state = %s", plain)
	}
	for id, want := range e.Values {
		wantValue(t, v, id, want)
	}
}

// What is read is a state of the present version that is written in one way;
// what it was read from was of an older version or was written so.
func FuzzState(f *testing.F) {
	f.Add([]byte(stateOfV1))
	f.Add([]byte(stateOfV2))
	for _, st := range []*State{newState(), someState()} {
		plain, err := encodeState(st)
		must(f, err)
		f.Add(plain)
	}
	var all vectors
	must(f, strictjson.Unmarshal(read(f, vectorFile), &all))
	f.Add([]byte(all.Vaults[0].State))
	f.Fuzz(func(t *testing.T, plain []byte) {
		st, err := decodeState(plain)
		if err != nil {
			return
		}
		if st.Version != StateVersion || st.lacksLists() || st.GrantDefault != api.GrantAllow && st.GrantDefault != api.GrantDeny {
			t.Fatalf("%+v", st)
		}
		out, err := encodeState(st)
		must(t, err)
		if n := st.size(); n < len(out) && len(out) < 1<<12 {
			t.Fatalf("size %d is less than %d", n, len(out))
		}
		again, err := decodeState(out)
		must(t, err)
		if d := cmp.Diff(st, again); d != "" {
			t.Fatal(d)
		}
		if d := cmp.Diff(st, st.clone()); d != "" {
			t.Fatal(d)
		}
		var v1 stateV1
		if isV1 := strictjson.Unmarshal(plain, &v1) == nil && v1.Version == 1; isV1 && len(st.Switches)+len(st.Policies)+len(st.Bindings)+len(st.Grants) > 0 {
			t.Fatal("version 1 has grown")
		}
		var v2 stateV2
		if isV2 := strictjson.Unmarshal(plain, &v2) == nil && v2.Version == 2; isV2 && len(st.Tokens) > 0 {
			t.Fatal("version 2 has grown")
		}
	})
}

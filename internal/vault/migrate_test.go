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

func TestMigrationOfV1(t *testing.T) {
	t.Parallel()
	got, err := decodeState([]byte(stateOfV1))
	must(t, err)
	want := &State{Version: 2,
		Secrets: []Secret{{ID: "s", Name: "S", Aliases: []string{"A"}, Scope: "workspace:w", Pin: "shopify", PinTenant: "acme", Field: "secret",
			Version: 3, CreatedAtMs: 1, RotatedAtMs: 2, DEK: "D", Value: "V"}},
		Credentials: []Credential{{ID: "c", Provider: "p", Scope: "global", Auto: true, Secrets: map[string]string{"secret": "s"},
			Auth: &api.AuthSpec{Type: "header", HeaderName: "X"}, Hosts: []string{"h:1"}, CAPEM: "P", AllowPrivateNetwork: true, AllowPorts: []int{1}, CreatedAtMs: 4}},
		Capabilities: []Capability{{ID: "p/x", Provider: "p", Credential: "c", Hosts: []string{"h:1"}, Methods: []string{"GET"}, Paths: []string{"/"}, CreatedAtMs: 5}},
		Switches:     []api.Switch{}, Policies: []api.Policy{}, Bindings: []api.Binding{}, Grants: []api.Grant{}, GrantDefault: "allow",
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
	plain, err := encodeState(newState())
	must(t, err)
	for _, list := range []string{"secrets", "credentials", "capabilities", "switches", "policies", "bindings", "grants"} {
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

// A vault of version 1 opens, stays as it is on disk until it changes, and is
// one of version 2 then.
func TestAVaultOfVersion1(t *testing.T) {
	t.Parallel()
	var all vectors
	must(t, strictjson.Unmarshal(read(t, vectorFileV1), &all))
	e := all.Vaults[0]
	cfg := lay(t, e.Files)
	v := open(t, cfg)
	s := mustSnapshot(t, v)
	if s.State().Version != 2 || s.State().GrantDefault != api.GrantAllow || s.State().Grants == nil {
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
	if plain := plaintext(t, read(t, doc), mustSnapshot(t, v).keys); !strings.HasPrefix(plain, `{"version":2,`) || !strings.Contains(plain, `"grants":[],"grantDefault":"deny"`) {
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
	if plain := plaintext(t, read(t, v.path("vault.aiv")), mustSnapshot(t, v).keys); !strings.HasPrefix(plain, `{"version":2,`) {
		t.Errorf("state = %s", plain)
	}
	for id, want := range e.Values {
		wantValue(t, v, id, want)
	}
}

// What is read is a state of version 2 that is written in one way; what it
// was read from was of version 1 or was written so.
func FuzzState(f *testing.F) {
	f.Add([]byte(stateOfV1))
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
	})
}

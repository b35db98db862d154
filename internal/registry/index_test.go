package registry

import (
	"flag"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"moldable.sh/aivault/internal/strictjson"
	files "moldable.sh/aivault/registry"
)

var update = flag.Bool("update", false, "write registry/index.txt from the provider files")

// parseAll parses every provider file, compiled in or not yet.
func parseAll(t testing.TB) []*Provider {
	t.Helper()
	names, err := fs.Glob(files.Files, "*.json")
	if err != nil || len(names) < 10 {
		t.Fatal(names, err)
	}
	var all []*Provider
	for _, name := range names {
		data, err := files.Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := Parse(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, p)
	}
	return all
}

// TestIndex: registry/index.txt is made from the provider files, and never
// behind them. What it says is what a registry of the decoded files knows.
func TestIndex(t *testing.T) {
	const path = "../../registry/index.txt"
	all := parseAll(t)
	want, err := Index(all...)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return // what is compiled in is the old one
	}
	if want != files.Index {
		t.Fatalf("registry/index.txt is not what the provider files say; run go generate ./registry\n%s", cmp.Diff(files.Index, want))
	}
	decoded, err := New(all...)
	if err != nil {
		t.Fatal(err)
	}
	r := load(t)
	if !cmp.Equal(r.Providers(), decoded.Providers()) || !cmp.Equal(r.Hosts(), decoded.Hosts()) ||
		!cmp.Equal(r.claims(), decoded.claims()) || !cmp.Equal(r.authHeaders, decoded.authHeaders) ||
		!reflect.DeepEqual(r.patterns, decoded.patterns) || !cmp.Equal(r.hosts, decoded.hosts) {
		t.Error("the index and the decoded files differ")
	}
	for _, p := range all {
		if d := cmp.Diff(r.Summary(p.ID), decoded.Summary(p.ID)); d != "" {
			t.Errorf("%s: %s", p.ID, d)
		}
		if !reflect.DeepEqual(r.Provider(p.ID), p) {
			t.Errorf("%s is decoded to something else", p.ID)
		}
	}
}

// Nothing is decoded before it is asked for, and then only what was.
func TestNothingIsDecodedAtTheStart(t *testing.T) {
	r := load(t)
	r.Claims("OPENAI_API_KEY")
	r.IsAuthHeader("authorization")
	r.HostProvider("api.openai.com")
	r.Providers()
	r.Summary("openai")
	r.Capability("acme/none")
	r.Set("none")
	if n := r.Decoded(); n > 0 {
		t.Fatalf("%d providers are decoded", n)
	}
	if _, c := r.Capability("openai/models"); c == nil {
		t.Fatal("openai/models is gone")
	}
	if n := r.Decoded(); n != 1 {
		t.Fatalf("%d providers are decoded", n)
	}
}

func TestDecodedOnce(t *testing.T) {
	r := load(t)
	got := make([]*Provider, 8)
	var all sync.WaitGroup
	for i := range got {
		all.Go(func() {
			if i%2 == 0 {
				got[i], _ = r.Capability("openai/models")
				return
			}
			got[i] = r.Provider("openai")
		})
	}
	all.Wait()
	for _, p := range got {
		if p == nil || p != got[0] {
			t.Fatal("decoded more than once")
		}
	}
}

// A file that cannot be decoded breaks its own provider: that keeps its
// names, and nothing of it can be called.
func TestABrokenFileBreaksItself(t *testing.T) {
	file, err := files.Files.ReadFile("openai.json")
	if err != nil {
		t.Fatal(err)
	}
	fewer, err := Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	fewer.Capabilities = fewer.Capabilities[1:]
	shorter, err := strictjson.Marshal(fewer)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		string(shorter),
		"", "{}", "null", string(file[1:]), string(file) + "x",
		strings.Replace(string(file), `"title"`, `"titel"`, 1),
		strings.Replace(string(file), `"provider": "openai"`, `"provider": "evil"`, 1),
	} {
		r := load(t)
		e := r.byID["openai"]
		e.once.Do(func() { e.decode([]byte(bad)) })
		p := r.Provider("openai")
		if p == nil || p.Broken() == nil || !strings.Contains(p.Broken().Error(), "openai.json") {
			t.Fatalf("%.20q: %v", bad, p)
		}
		if _, c := r.Capability("openai/models"); c != nil {
			t.Error("a broken provider has a capability")
		}
		if claim, ok := r.Claims("OPENAI_API_KEY"); !ok || claim.Provider != "openai" {
			t.Error("a broken provider has lost its names")
		}
		if _, ok := p.MatchHost("api.openai.com"); ok || len(p.Logins)+len(p.Hosts) > 0 {
			t.Error("a broken provider has hosts")
		}
		if r.Provider("anthropic").Broken() != nil {
			t.Error("another provider is broken, too")
		}
	}
}

func TestParseIndexRefuses(t *testing.T) {
	for _, text := range []string{
		"key\ta\tb", "provider\ta\tA", "provider\ta\tA\tx", "provider\ta\tA\t1\nother\tx", "provider\ta\tA\t1\nsecret\ta\tb",
		"provider\ta\tA\t1\nhosts\ta\tb", "provider\ta\tA\t1\tb\tc\td", "provider\ta\tA\t1\nkey",
	} {
		if _, err := parseIndex(text); err == nil {
			t.Errorf("%q is read", text)
		}
	}
	for _, text := range []string{"provider\ta\tA\t1\nprovider\ta\tA\t1", "provider\tb\tA\t1\nprovider\ta\tA\t1"} {
		entries, err := parseIndex(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := index(entries); err == nil {
			t.Errorf("%q is a registry", text)
		}
	}
}

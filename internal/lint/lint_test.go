package lint

import (
	"os"
	"path/filepath"
	"testing"

	"moldable.sh/aivault/internal/registry"
)

func load(t testing.TB) *registry.Registry {
	t.Helper()
	r, err := registry.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range r.Providers() {
		if why := r.Provider(id).Broken(); why != nil {
			t.Fatalf("%v; run go generate ./registry", why)
		}
	}
	return r
}

// Every provider of the registry passes: its rules compile, its default calls
// and examples are its own, and no capability admits more than it says.
func TestRegistry(t *testing.T) {
	r := load(t)
	for _, id := range r.Providers() {
		for _, problem := range Provider(r.Provider(id), r) {
			t.Errorf("%s: %s", problem.Where, problem.Why)
		}
	}
}

// The requests beside the registry: which capabilities admit them, and that
// none admits the rest.
func TestRegistryRequests(t *testing.T) {
	r := load(t)
	for _, id := range r.Providers() {
		data, err := os.ReadFile(filepath.Join("..", "..", "registry", "testdata", id+".txt"))
		if err != nil {
			t.Error(err)
			continue
		}
		results, err := Requests(r.Provider(id), r, string(data))
		if err != nil {
			t.Errorf("%s.txt: %v", id, err)
		}
		count := map[string]int{}
		for _, one := range results {
			if !one.OK {
				t.Errorf("%s.txt:%d: %s %s %s%s: %s", id, one.Line, one.Verb, one.Method, one.Host, one.Path, one.Why)
			}
			count[one.Verb]++
		}
		if count[allow]+count[admin] < 5 || count[refuse] < 10 {
			t.Errorf("%s.txt: too few requests: %v", id, count)
		}
	}
}

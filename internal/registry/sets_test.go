package registry_test

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/registry"
)

func load(t *testing.T) *registry.Registry {
	t.Helper()
	r, err := registry.Load()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Each id that people have used from the start still names something.
func TestIDsThatStay(t *testing.T) {
	r := load(t)
	file, err := os.Open(filepath.Join("..", "..", "registry", "testdata", "ids.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	checked := 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		id := lines.Text()
		provider, _, _ := strings.Cut(id, "/")
		if strings.HasPrefix(id, "#") || r.Provider(provider) == nil {
			continue
		}
		checked++
		_, capability := r.Capability(id)
		_, set := r.Set(id)
		if capability == nil && set == nil {
			t.Errorf("%s is gone", id)
		}
	}
	if checked < 80 {
		t.Errorf("only %d ids were checked", checked)
	}
}

func TestSets(t *testing.T) {
	r := load(t)
	count := 0
	for _, id := range r.Providers() {
		p := r.Provider(id)
		for i := range p.Sets {
			s := &p.Sets[i]
			count++
			if gotP, gotS := r.Set(s.ID); gotP != p || gotS != s {
				t.Errorf("%s leads to %v", s.ID, gotS)
			}
			var members []*registry.Capability
			for _, m := range s.Members {
				_, c := r.Capability(m)
				// The halves of an endpoint belong together, whatever each is, and
				// a set of one is another name. No set turns an admin's
				// capability on.
				if c.Access == "admin" && c.Operation == nil && len(s.Members) > 1 {
					t.Errorf("%s: %s is for admins: who grants the set grants it", s.ID, m)
				}
				for _, other := range members {
					if rule := both(t, p, c, other); rule != "" {
						t.Errorf("%s: %s and %s admit the same requests, none more specifically: %s", s.ID, other.ID, m, rule)
					}
				}
				members = append(members, c)
			}
		}
	}
	if count < 50 {
		t.Errorf("only %d sets", count)
	}
	if p, s := r.Set("openai/none"); p != nil || s != nil {
		t.Error("found what is not there")
	}
	if _, s := r.Set("openai/embeddings"); s != nil {
		t.Error("a capability is a set")
	}
}

// both returns two rules of capabilities that share a method, where some path
// is admitted by both and neither rule is more specific. A call on a set with
// the two would go nowhere.
func both(t *testing.T, p *registry.Provider, a, b *registry.Capability) string {
	t.Helper()
	if !slices.ContainsFunc(a.Methods, func(m string) bool { return slices.Contains(b.Methods, m) }) {
		return ""
	}
	ruleA, errA := policy.CompileOperation(a.Operation)
	ruleB, errB := policy.CompileOperation(b.Operation)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	if !ruleA.Meets(ruleB) {
		return ""
	}
	for _, x := range a.MatchHeader {
		for _, y := range b.MatchHeader {
			nameX, _, _ := strings.Cut(x, ":")
			nameY, _, _ := strings.Cut(y, ":")
			if strings.EqualFold(nameX, nameY) && x != y {
				return ""
			}
		}
	}
	for _, x := range a.Paths {
		for _, y := range b.Paths {
			ruleX, errX := policy.ParsePathRule(x)
			ruleY, errY := policy.ParsePathRule(y)
			if errX != nil || errY != nil {
				t.Fatal(errX, errY)
			}
			if ruleX.Specificity() == ruleY.Specificity() && overlap(x, y) {
				return x + " and " + y
			}
		}
	}
	return ""
}

// overlap says whether some path is admitted by two rules of the same number
// of segments.
func overlap(x, y string) bool {
	xs, ys := strings.Split(strings.TrimPrefix(x, "="), "/"), strings.Split(strings.TrimPrefix(y, "="), "/")
	if len(xs) != len(ys) {
		return false
	}
	for i := range xs {
		if !meet(xs[i], ys[i]) {
			return false
		}
	}
	return true
}

// meet says whether some text is of both patterns, in which '*' is any text.
func meet(x, y string) bool {
	switch {
	case x == "" && y == "":
		return true
	case x != "" && x[0] == '*':
		return meet(x[1:], y) || y != "" && meet(x, y[1:])
	case y != "" && y[0] == '*':
		return meet(y, x)
	}
	return x != "" && y != "" && x[0] == y[0] && meet(x[1:], y[1:])
}

package policy_test

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/registry"
)

// compiled is a registry capability with what requests of it are judged by.
type compiled struct {
	*policy.Capability
	entry *registry.Capability
	rules policy.Rules
}

func compileAll(t *testing.T, p *registry.Provider, r *registry.Registry) []compiled {
	t.Helper()
	rules := policy.Rules{AuthHeader: r.IsAuthHeader, CallerHeaders: p.CallerHeaders, CallerQuery: p.CallerQuery}
	for i := range p.Logins {
		a := &p.Logins[i].Auth
		if a.ParamName != "" {
			rules.AuthQuery = append(rules.AuthQuery, a.ParamName)
		}
		for _, f := range a.Params {
			rules.AuthQuery = append(rules.AuthQuery, f.Name)
		}
	}
	for _, h := range p.StaticHeaders {
		switch f := (api.Header{Name: h.Name, Value: h.Value}); {
		case h.Fixed:
			rules.Fixed = append(rules.Fixed, f)
		case !h.Caller:
			rules.Defaults = append(rules.Defaults, f)
		}
	}
	var out []compiled
	for i := range p.Capabilities {
		c := &p.Capabilities[i]
		k, err := policy.CompileTemplate(c.ID, p.ID, p.HostsOf(c), c.Methods, c.Paths)
		if err != nil {
			t.Errorf("%s: %v", c.ID, err)
			continue
		}
		if c.Default != nil {
			k.DefaultMethod, k.DefaultPath = c.Default.Method, c.Default.Path
		}
		out = append(out, compiled{k, c, rules})
	}
	return out
}

// at returns what was compiled for the account that host belongs to: for a
// provider of tenants or regions the hosts are filled with what it says, or
// nothing is left when it is none of theirs.
func at(t *testing.T, p *registry.Provider, all []compiled, host string) []compiled {
	t.Helper()
	if len(p.HostParams) == 0 {
		return all
	}
	params, ok := p.MatchHost(host)
	if !ok && slices.Contains(p.Hosts, host) {
		// A host without parameters is of every account: take the first one's.
		params, ok = p.MatchHost(requests(t, p.ID)[0][2])
	}
	if !ok {
		return nil
	}
	var out []compiled
	for _, c := range all {
		var hosts []string
		for _, h := range c.Hosts {
			filled, ok := p.FillHost(h, params)
			if !ok {
				t.Fatalf("%s: %s is not filled by %v", c.ID, h, params)
			}
			hosts = append(hosts, filled)
		}
		filled, err := c.WithHosts(hosts)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, compiled{filled, c.entry, c.rules})
	}
	return out
}

// requests reads the requests beside a provider's file.
func requests(t *testing.T, id string) [][]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "registry", "testdata", id+".txt"))
	if err != nil {
		t.Error(err)
	}
	var out [][]string
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) < 4 || (f[0] == "refuse") != (len(f) == 4) {
			t.Errorf("%s.txt: %q is not VERB METHOD HOST PATH [capabilities]", id, line)
			continue
		}
		out = append(out, f)
	}
	if len(out) == 0 {
		t.Fatalf("%s.txt holds no request", id)
	}
	return out
}

// admits lists the capabilities that let the call through.
func admits(all []compiled, method, host, target string) []string {
	var ids []string
	for _, c := range all {
		if c.Hosts[0] != host {
			continue
		}
		r, err := policy.Canonicalise(method, target, nil, c.rules)
		if err != nil {
			continue
		}
		if _, err := policy.Decide(c.Capability, r); err == nil {
			ids = append(ids, c.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// Every rule of the registry compiles as requests are judged by it, every
// default call and every worked example is one that its capability admits.
func TestRegistry(t *testing.T) {
	reg, err := registry.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range reg.Providers() {
		p := reg.Provider(id)
		for _, c := range at(t, p, compileAll(t, p, reg), requests(t, id)[0][2]) {
			if c.DefaultMethod != "" && c.DefaultPath != "" {
				if !slices.Contains(admits([]compiled{c}, c.DefaultMethod, c.Hosts[0], c.DefaultPath), c.ID) {
					t.Errorf("%s: its default call %s %s is refused", c.ID, c.DefaultMethod, c.DefaultPath)
				}
			}
			method, target, headers := example(t, c)
			r, err := policy.Canonicalise(method, target, headers, c.rules)
			if err != nil {
				t.Errorf("%s: example: %v", c.ID, err)
				continue
			}
			if _, err := policy.Decide(c.Capability, r); err != nil {
				t.Errorf("%s: example: %v", c.ID, err)
			}
		}
	}
}

// example reads what the CLI would make of a worked example.
func example(t *testing.T, c compiled) (method, target string, headers []api.Header) {
	t.Helper()
	method, target = c.DefaultMethod, c.DefaultPath
	args := words(c.entry.Example)
	var query []string
	for i := 0; i < len(args); i++ {
		next := func() string {
			if i++; i >= len(args) {
				t.Fatalf("%s: example ends after %s", c.ID, args[i-1])
			}
			return args[i]
		}
		switch args[i] {
		case "-X":
			method = next()
		case "--path":
			target = next()
		case "--query":
			name, value, _ := strings.Cut(next(), "=")
			query = append(query, url.QueryEscape(name)+"="+url.QueryEscape(value))
		case "-H":
			name, value, _ := strings.Cut(next(), ":")
			headers = append(headers, api.Header{Name: name, Value: value})
		case "--body", "--body-file", "--form", "--multipart-field", "--multipart-file", "-o":
			next()
		default:
			t.Errorf("%s: example has the unknown argument %q", c.ID, args[i])
		}
	}
	if method == "" || target == "" {
		t.Errorf("%s: example leaves out the method or the path, and there is no default", c.ID)
	}
	if len(query) > 0 {
		target += "?" + strings.Join(query, "&")
	}
	return method, target, headers
}

// words splits as a shell does, for single quotes alone.
func words(s string) []string {
	var out []string
	var b strings.Builder
	in, quoted := false, false
	for _, c := range s {
		switch {
		case c == '\'':
			quoted, in = !quoted, true
		case c == ' ' && !quoted:
			if in {
				out, in = append(out, b.String()), false
				b.Reset()
			}
		default:
			b.WriteRune(c)
			in = true
		}
	}
	if in {
		out = append(out, b.String())
	}
	return out
}

// The requests beside the registry: which capabilities admit them, and that
// none admits the rest.
func TestRegistryRequests(t *testing.T) {
	reg, err := registry.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range reg.Providers() {
		p := reg.Provider(id)
		all := compileAll(t, p, reg)
		count := map[string]int{}
		for _, f := range requests(t, id) {
			want := slices.Sorted(slices.Values(f[4:]))
			got := admits(at(t, p, all, f[2]), f[1], f[2], f[3])
			if !slices.Equal(got, want) {
				t.Errorf("%s.txt: %s %s is admitted by %v, want %v", id, f[1], f[3], got, want)
			}
			for _, c := range all {
				if slices.Contains(want, c.ID) && (c.entry.Access == "admin") != (f[0] == "admin") {
					t.Errorf("%s.txt: %s has access %s", id, c.ID, c.entry.Access)
				}
			}
			count[f[0]]++
		}
		if count["allow"] < 5 || count["refuse"] < 10 {
			t.Errorf("%s.txt: too few requests: %v", id, count)
		}
	}
}

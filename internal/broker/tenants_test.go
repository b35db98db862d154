package broker_test

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

// Three tenants have a secret of the same name in scopes of their own: a call
// uses its own tenant's, or none.
func TestThreeTenantsOneName(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	v.Create(t, "OTHER", "value-of-nobody-0123456789")
	scopes := []string{"global", "workspace:w1", "group:w2:g"}
	tamper(t, v, func(tx *vault.Tx) error {
		for _, scope := range scopes {
			id, err := addSecret(tx, "TOKEN", scope, "value of "+scope, "", "")
			if err != nil {
				return err
			}
			tx.State.Credentials = append(tx.State.Credentials, account("of-"+strings.ReplaceAll(scope, ":", "-"), scope, id))
		}
		tx.State.Capabilities = acmeCapabilities()
		return nil
	})
	for _, c := range []struct{ workspace, group, want string }{
		{"", "", "global"},
		{"w1", "", "workspace:w1"},
		{"w1", "g", "workspace:w1"},
		{"w2", "", "global"},
		{"w2", "g", "group:w2:g"},
		{"w2", "h", "global"},
		{"w3", "g", "global"},
	} {
		call := get("acme/x", "/x")
		call.WorkspaceID, call.GroupID = c.workspace, c.group
		mustInvoke(t, v, call)
		seen := v.API.Seen()
		if got := seen[len(seen)-1].Header.Get("X-A"); got != "value of "+c.want {
			t.Errorf("%s/%s used the %s", c.workspace, c.group, got)
		}
		for _, scope := range scopes {
			named := call
			named.Credential = "of-" + strings.ReplaceAll(scope, ":", "-")
			s, _ := grant.ParseScope(scope)
			if (grant.Scope{Workspace: c.workspace, Group: c.group}).Sees(s) {
				mustInvoke(t, v, named)
			} else {
				mustRefuse(t, v, named, api.CredentialNotFound)
			}
		}
	}
}

// callAs makes a call as anyone and reads its answer to the end.
func callAs(v *aivaulttest.Aivault, who grant.Caller, call api.Call) (*api.Planned, string, error) {
	answer, err := v.Broker.Do(background, who, call, egress.Body{})
	if err != nil {
		return nil, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return &answer.Planned, string(text), err
}

// account is a credential of the custom provider acme: its secrets go into the
// headers X-A, X-B and so on.
func account(id, scope string, secrets ...string) vault.Credential {
	c := vault.Credential{
		ID: id, Provider: "acme", Scope: scope, Secrets: map[string]string{},
		Auth: &api.AuthSpec{Type: "multi-header"}, Hosts: []string{aivaulttest.CustomHost},
	}
	for i, s := range secrets {
		field := string(rune('a' + i))
		c.Secrets[field] = s
		c.Auth.Headers = append(c.Auth.Headers, api.AuthField{Name: "X-" + strings.ToUpper(field), ValueTemplate: "{{" + field + "}}"})
	}
	return c
}

func acmeCapabilities() []vault.Capability {
	var list []vault.Capability
	for _, id := range []string{"acme/x", "acme/x-read", "acme/y"} {
		list = append(list, vault.Capability{
			ID: id, Provider: "acme", Hosts: []string{aivaulttest.CustomHost}, Methods: []string{"GET"}, Paths: []string{"=/" + id[5:]},
		})
	}
	return list
}

// A world is what a vault may hold, small enough that an independent reading
// of the rules can say what each call has to do.
type world struct {
	secrets     map[string]*vault.Secret // by the value that goes out
	credentials []vault.Credential
	values      map[string][]string // by credential, in the order of its fields
	bindings    []api.Binding
	grants      []api.Grant
	deny        bool
	off         map[string]bool
}

var worldScopes = []string{"global", "workspace:w1", "workspace:w2", "group:w1:g1", "group:w1:g2", "group:w2:g1"}

// drawWorld fills the state of tx anew.
func drawWorld(t *rapid.T, tx *vault.Tx) (*world, error) {
	w := &world{secrets: map[string]*vault.Secret{}, values: map[string][]string{}, off: map[string]bool{}}
	tx.State.Secrets, tx.State.Credentials, tx.State.Bindings, tx.State.Grants, tx.State.Switches = nil, nil, nil, nil, nil
	tx.State.Capabilities = acmeCapabilities()
	for i := range rapid.IntRange(1, 6).Draw(t, "secrets") {
		s := vault.Secret{ID: tx.NewID(), Name: "TOKEN", Scope: rapid.SampledFrom(worldScopes).Draw(t, "secret in"), Version: 1}
		own, _ := grant.ParseScope(s.Scope)
		for _, g := range worldScopes[3:] {
			group, _ := grant.ParseScope(g)
			if (own == grant.Global || own.Workspace == group.Workspace) && rapid.IntRange(0, 2).Draw(t, "attached to "+g) == 0 {
				s.Groups = append(s.Groups, g)
			}
		}
		value := fmt.Sprintf("value-%d-%s", i, s.ID)
		if err := tx.Seal(&s, secret.FromString(value)); err != nil {
			return nil, err
		}
		tx.State.Secrets = append(tx.State.Secrets, s)
		w.secrets[value] = &s
	}
	values := make([]string, 0, len(w.secrets))
	for v := range w.secrets {
		values = append(values, v)
	}
	slices.Sort(values)
	for i := range rapid.IntRange(3, 7).Draw(t, "credentials") {
		id := fmt.Sprint("c", i)
		held := rapid.SliceOfN(rapid.SampledFrom(values), 1, 2).Draw(t, "secrets of "+id)
		var ids []string
		for _, v := range held {
			ids = append(ids, w.secrets[v].ID)
		}
		scope := w.secrets[held[0]].Scope
		if rapid.IntRange(0, 3).Draw(t, "credential elsewhere") == 0 {
			scope = rapid.SampledFrom(worldScopes).Draw(t, "credential in")
		}
		c := account(id, scope, ids...)
		if rapid.IntRange(0, 5).Draw(t, "only") == 0 {
			c.Only = []string{rapid.SampledFrom([]string{"acme/x", "*-read", "acme/*"}).Draw(t, "only of "+id)}
		}
		tx.State.Credentials = append(tx.State.Credentials, c)
		w.values[id] = held
	}
	w.credentials = tx.State.Credentials
	w.drawRules(t)
	tx.State.Bindings, tx.State.Grants = w.bindings, w.grants
	tx.State.GrantDefault = api.GrantAllow
	if w.deny {
		tx.State.GrantDefault = api.GrantDeny
	}
	if w.off["acme/y"] {
		tx.State.Switches = []api.Switch{{Pattern: "acme/*", On: true}, {Pattern: "acme/y", On: false}}
	}
	return w, nil
}

func (w *world) drawRules(t *rapid.T) {
	patterns := rapid.SampledFrom([]string{"acme/*", "acme/x*", "*", "acme/x", "*-read", "other/*"})
	consumer := func(what string) *api.Consumer {
		n := uint32(rapid.IntRange(1, 2).Draw(t, what+" of"))
		if rapid.Bool().Draw(t, what+" of a group") {
			return &api.Consumer{GID: new(n + 10)}
		}
		return &api.Consumer{UID: new(n)}
	}
	taken := map[string]bool{}
	for i := range max(0, rapid.IntRange(-4, 8).Draw(t, "bindings")) {
		b := api.Binding{
			ID: fmt.Sprint("b", i), Capability: patterns.Draw(t, "bound"), Scope: rapid.SampledFrom(append([]string{"global", "global"}, worldScopes...)).Draw(t, "bound in"),
			Credential: fmt.Sprint("c", rapid.IntRange(0, len(w.credentials)).Draw(t, "bound to")),
		}
		at := b.Capability + b.Scope
		if rapid.Bool().Draw(t, "bound for one") {
			b.Consumer = consumer("binding")
			at += consumerText(b.Consumer)
		}
		if !taken[at] {
			taken[at] = true
			w.bindings = append(w.bindings, b)
		}
	}
	for i := range max(0, rapid.IntRange(-3, 4).Draw(t, "grants")) {
		g := api.Grant{ID: fmt.Sprint("g", i), Consumer: *consumer("grant"), Capabilities: rapid.SliceOfN(patterns, 0, 3).Draw(t, "granted")}
		if context := rapid.SampledFrom(append([]string{"global", "global", "global", "global"}, worldScopes...)).Draw(t, "granted in"); context != "global" {
			s, _ := grant.ParseScope(context)
			g.WorkspaceID, g.GroupID = s.Workspace, s.Group
			g.StrictScope = rapid.Bool().Draw(t, "strict")
		}
		w.grants = append(w.grants, g)
	}
	w.deny = rapid.IntRange(0, 5).Draw(t, "deny") == 0
	w.off["acme/y"] = rapid.IntRange(0, 3).Draw(t, "off") == 0
}

func consumerText(c *api.Consumer) string {
	if c.UID != nil {
		return fmt.Sprint("u", *c.UID)
	}
	return fmt.Sprint("g", *c.GID)
}

// lends says whether what is in scope at may use a secret.
func lends(s *vault.Secret, at string) bool {
	switch {
	case s.Scope == "global" || s.Scope == at || slices.Contains(s.Groups, at):
		return true
	}
	workspace, isWorkspace := strings.CutPrefix(s.Scope, "workspace:")
	return isWorkspace && strings.HasPrefix(at, "group:"+workspace+":")
}

func (w *world) whole(c *vault.Credential, at string) bool {
	return !slices.ContainsFunc(w.values[c.ID], func(v string) bool { return !lends(w.secrets[v], at) })
}

// distance is how far a credential is from calls in a context: 0 its own
// scope, 1 attached to its group, 2 its workspace's, 3 global; -1 out of sight.
func (w *world) distance(c *vault.Credential, context string) int {
	parts := strings.Split(context, ":")
	attached := slices.ContainsFunc(w.values[c.ID], func(v string) bool { return slices.Contains(w.secrets[v].Groups, context) })
	switch {
	case c.Scope == context:
		return 0
	case attached && w.whole(c, context):
		return 1
	case parts[0] == "group" && c.Scope == "workspace:"+parts[1]:
		return 2
	case c.Scope == "global":
		return 3
	}
	return -1
}

// ofCaller are the grants that count for a caller; limited is false when the
// default lets it do everything.
func (w *world) ofCaller(who grant.Caller) (list []api.Grant, limited bool) {
	for _, g := range w.grants {
		if g.Consumer.UID != nil && *g.Consumer.UID == who.UID {
			list = append(list, g)
		}
	}
	if list == nil {
		for _, g := range w.grants {
			if g.Consumer.GID != nil && (*g.Consumer.GID == who.GID || slices.Contains(who.Groups, *g.Consumer.GID)) {
				list = append(list, g)
			}
		}
	}
	return list, list != nil || w.deny
}

func names(patterns []string, id string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return globs(p, id) })
}

// globs is matching by its definition: a '*' is some text, whichever.
func globs(pattern, id string) bool {
	switch {
	case pattern == "":
		return id == ""
	case pattern[0] == '*':
		return globs(pattern[1:], id) || id != "" && globs(pattern, id[1:])
	}
	return id != "" && id[0] == pattern[0] && globs(pattern[1:], id[1:])
}

// permits says whether the caller's grants let it use a credential at a
// distance; distance -1 asks for any.
func (w *world) permits(who grant.Caller, id, context string, distance int) bool {
	list, limited := w.ofCaller(who)
	if !limited {
		return true
	}
	return slices.ContainsFunc(list, func(g api.Grant) bool {
		at := grant.Scope{Workspace: g.WorkspaceID, Group: g.GroupID}.String()
		in := at == context || at == "global" || g.GroupID == "" && strings.HasPrefix(context, "group:"+g.WorkspaceID+":")
		if g.StrictScope {
			in = at == context && distance <= 1
		}
		return in && names(g.Capabilities, id)
	})
}

// bound is the binding that a call goes by: "" for none, "?" for several.
func (w *world) bound(who grant.Caller, id, context string) string {
	best, found := []int(nil), ""
	for _, b := range w.bindings {
		kind := 2
		if b.Consumer != nil && b.Consumer.UID != nil {
			if kind = 0; *b.Consumer.UID != who.UID {
				continue
			}
		} else if b.Consumer != nil {
			if kind = 1; *b.Consumer.GID != who.GID && !slices.Contains(who.Groups, *b.Consumer.GID) {
				continue
			}
		}
		far := w.distance(&vault.Credential{Scope: b.Scope}, context)
		if far < 0 || !globs(b.Capability, id) {
			continue
		}
		wild := 0
		if strings.Contains(b.Capability, "*") {
			wild = 1
		}
		rank := []int{kind, far, wild, -len(b.Capability)}
		switch order := slices.Compare(rank, best); {
		case best == nil || order < 0:
			best, found = rank, b.Credential
		case order == 0 && b.Credential != found:
			found = "?"
		}
	}
	return found
}

// use is what using one credential gives: its id, or a code.
func (w *world) use(c *vault.Credential, id string) (string, api.Code) {
	switch {
	case !w.whole(c, c.Scope):
		return "", api.PolicyViolation
	case len(c.Only) > 0 && !names(c.Only, id):
		return "", api.PolicyViolation
	}
	return c.ID, ""
}

// expect is what a call has to do: use a credential, or end with a code.
func (w *world) expect(who grant.Caller, id, context, named string) (string, api.Code) {
	if list, limited := w.ofCaller(who); limited && !slices.ContainsFunc(list, func(g api.Grant) bool { return names(g.Capabilities, id) }) {
		return "", api.CapabilityNotFound
	}
	if w.off[id] {
		return "", api.PolicyViolation
	}
	if !w.permits(who, id, context, -1) {
		return "", api.CredentialNotFound
	}
	if named == "" {
		named = w.bound(who, id, context)
	}
	if named == "?" {
		return "", api.CredentialAmbiguous
	}
	for at := range 4 {
		var fit []string
		failed := false
		for i := range w.credentials {
			c := &w.credentials[i]
			far := w.distance(c, context)
			if far != at || !w.permits(who, id, context, far) || named != "" && named != c.ID {
				continue
			}
			if used, code := w.use(c, id); code == "" {
				fit = append(fit, used)
			} else {
				failed = true
			}
		}
		switch {
		case len(fit) > 1:
			return "", api.CredentialAmbiguous
		case len(fit) == 1:
			return fit[0], ""
		case failed:
			return "", api.PolicyViolation
		}
	}
	return "", api.CredentialNotFound
}

// Whatever a vault holds, each call uses the account that the rules name, and
// never a secret of a scope that its context does not see.
func TestNoCallUsesAnotherTenantsSecret(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	v.Create(t, "FIRST", "makes-the-vault-0123456789")
	rapid.Check(t, func(rt *rapid.T) {
		var w *world
		tamper(t, v, func(tx *vault.Tx) (err error) {
			w, err = drawWorld(rt, tx)
			return err
		})
		for range 25 {
			who := grant.Caller{UID: uint32(rapid.IntRange(1, 3).Draw(rt, "uid")), GID: uint32(rapid.IntRange(11, 13).Draw(rt, "gid"))}
			who.Groups = append([]uint32{}, rapid.SliceOfN(rapid.SampledFrom([]uint32{11, 12, 14}), 0, 2).Draw(rt, "groups")...)
			call := get("", "")
			call.Capability = rapid.SampledFrom([]string{"acme/x", "acme/x", "acme/x-read", "acme/y"}).Draw(rt, "capability")
			call.Request.Path = call.Capability[4:]
			context := rapid.SampledFrom(worldScopes).Draw(rt, "context")
			s, _ := grant.ParseScope(context)
			call.WorkspaceID, call.GroupID = s.Workspace, s.Group
			if rapid.IntRange(0, 3).Draw(rt, "name one") == 0 {
				call.Credential = fmt.Sprint("c", rapid.IntRange(0, len(w.credentials)).Draw(rt, "credential"))
			}
			v.API.Record(true)
			planned, _, err := callAs(v, who, call)
			id, code := w.expect(who, call.Capability, context, call.Credential)
			if api.CodeOf(err) != code || err == nil && planned.Credential != id {
				rt.Fatalf("uid %d of %v, %s in %s with %q: %v %v, want %s%s", who.UID, who.Groups, call.Capability, context, call.Credential, planned, err, id, code)
			}
			seen := v.API.Seen()
			if len(seen) != 0 && err != nil || len(seen) > 1 {
				rt.Fatalf("%v, and the API saw %d requests", err, len(seen))
			}
			for _, r := range seen {
				for i, want := range w.values[id] {
					got := r.Header.Get("X-" + string(rune('A'+i)))
					if got != want {
						rt.Fatalf("credential %s sent %q, want %q", id, got, want)
					}
					if !lends(w.secrets[got], context) {
						rt.Fatalf("a call in %s sent a secret of %s, attached to %v", context, w.secrets[got].Scope, w.secrets[got].Groups)
					}
				}
			}
		}
	})
}

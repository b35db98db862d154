package lint

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/registry"
)

const acme = `{
  "schemaVersion": 1, "provider": "acme", "title": "Acme", "category": "test", "docs": "https://acme.com/docs",
  "getKey": {"text": "Ask.", "url": "https://acme.com/keys"},
  "secrets": [{"name": "ACME_KEY", "aliases": ["ACME_API_KEY"], "field": "secret"}],
  "hosts": ["{shop}.acme.com", "api.acme.com"],
  "hostParams": [{"name": "shop", "kind": "tenant", "pattern": "^[a-z0-9-]+$"}],
  "hostPatterns": ["*.acme.com"],
  "logins": [
    {"id": "key", "auth": {"type": "header", "headerName": "X-Acme-Key", "valueTemplate": "{{secret}}"}},
    {"id": "query", "auth": {"type": "query", "paramName": "k", "valueTemplate": "{{secret}}"}, "dedicated": true},
    {"id": "bot", "auth": {"type": "path", "prefixTemplate": "/bot{{secret}}"}, "dedicated": true}
  ],
  "capabilities": [
    {"id": "acme/things", "description": "Read things.", "access": "read", "methods": ["GET", "POST"], "paths": ["=/v1/things", "=/v1/search"],
     "hosts": ["api.acme.com"], "default": {"method": "GET", "path": "/v1/things"}, "example": ""},
    {"id": "acme/things-write", "description": "Write things.", "access": "write", "methods": ["POST", "DELETE"], "paths": ["/v1/things/"],
     "hosts": ["api.acme.com"], "example": "-X DELETE --path /v1/things/7 --query 'a b=c' -H 'Accept: x/y'"},
    {"id": "acme/members", "description": "Invite.", "access": "admin", "methods": ["POST"], "paths": ["=/v1/members"],
     "hosts": ["api.acme.com"], "example": "--body '{}'"},
    {"id": "acme/shop", "description": "Read a shop.", "access": "read", "methods": ["POST"], "paths": ["=/shop"],
     "hosts": ["{shop}.acme.com"], "matchHeader": ["X-Op: Get", "X-Op: List"], "example": "-H 'X-Op: Get'"},
    {"id": "acme/shop-write", "description": "Write a shop.", "access": "write", "methods": ["POST"], "paths": ["=/shop"],
     "hosts": ["{shop}.acme.com"], "matchHeader": ["X-Op: Put"], "example": "-H 'X-Op: Put'"}
  ]
}`

func TestProblems(t *testing.T) {
	beside := load(t)
	if _, problems := File([]byte(acme), beside); len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, c := range []struct{ old, new, where, why string }{
		{`"title": "Acme"`, `"titel": "Acme"`, "file", "not known"},
		{`"ACME_API_KEY"`, `"OPENA1_API_KEY"`, "OPENA1_API_KEY", "claimed by openai"},
		{`"=/v1/things", "=`, `"=/v1/things", "/v1/a*b:c*", "=/v1/%zz", "=`, "file", "character"},
		{`"path": "/v1/things"}`, `"path": "/v1/thing"}`, "acme/things", "default call is refused"},
		{`"--body '{}'"`, `"--body '{}"`, "acme/members", "quote is not closed"},
		{`"--body '{}'"`, `"--body $HOME"`, "acme/members", "in single quotes"},
		{`"--body '{}'"`, `"--body"`, "acme/members", "nothing follows --body"},
		{`"--body '{}'"`, `"--verbose x"`, "acme/members", "not one that an example may have"},
		{`"--body '{}'"`, `"--path /v1/member"`, "acme/members", "is not what it admits"},
		{`"--body '{}'"`, `"--query k=v"`, "acme/members", "example"},
		{`"--body '{}'"`, `"-H 'X-Acme-Key: v'"`, "acme/members", "example"},
		{`"-X DELETE --path /v1/things/7`, `"--path /v1/things/7`, "acme/things-write", "no default"},
		{`"-H 'X-Op: Get'"`, `"-H 'X-Op: Put'"`, "acme/shop", "is not what it admits"},
		// Reading that covers writing, writing that covers what starts off.
		{`"=/v1/things", "=/v1/search"`, `"/v1"`, "acme/things", "POST /v1/things/q as acme/things-write does, which is write"},
		{`"=/v1/things", "=/v1/search"`, `"=/v1/things", "=/v1/*"`, "acme/things", "POST /v1/members as acme/members does, which is admin"},
		{`"=/v1/things", "=/v1/search"`, `"=/v1/things", "=/v1/things/*"`, "acme/things", "as acme/things-write does, which is write"},
		{`["/v1/things/"]`, `["/v1/things/", "/v1/"]`, "acme/things-write", "POST /v1/members as acme/members does, which is admin"},
		{`["X-Op: Get", "X-Op: List"]`, `["X-Op: Get", "X-Op: Put"]`, "acme/shop", "as acme/shop-write does, which is write"},
		{`"matchHeader": ["X-Op: Get", "X-Op: List"], `, ``, "acme/shop", "as acme/shop-write does, which is write"},
		// On another host, or behind another login's prefix, nothing is covered.
		{`"acme/members", "description": "Invite.", "access": "admin", "methods": ["POST"], "paths": ["=/v1/members"]`,
			`"acme/members", "description": "Invite.", "access": "admin", "logins": ["bot"], "methods": ["POST"], "paths": ["=/v1/things"]`, "", ""},
	} {
		if !strings.Contains(acme, c.old) {
			t.Fatalf("%s is not in the file", c.old)
		}
		_, problems := File([]byte(strings.Replace(acme, c.old, c.new, 1)), beside)
		if c.where == "" {
			if len(problems) > 0 {
				t.Errorf("%s: %v", c.new, problems)
			}
			continue
		}
		if !slices.ContainsFunc(problems, func(p Problem) bool { return p.Where == c.where && strings.Contains(p.Why, c.why) }) {
			t.Errorf("%s: %v", c.new, problems)
		}
	}
}

// Capabilities that overlap: a line each, "NAME ACCESS METHODS PATHS" and the
// names of those that it declares.
func TestOverlaps(t *testing.T) {
	beside := load(t)
	head, _, _ := strings.Cut(acme, `"capabilities": [`)
	var more []string
	for _, c := range "cdefghijklmnopqrstuvwxyz" {
		more = append(more, "=/v1/a*"+string(c)+"*")
	}
	tangle := strings.Join(more, ",")
	for _, c := range []struct{ a, b, where, why string }{
		{"a read GET /v1/a", "b read GET /v1/b", "", ""},
		{"a read GET /v1/a", "b read POST /v1/a", "", ""},
		{"a read GET /v1/a b", "b read GET =/v1/a/x", "", ""},
		{"a read GET =/v1/a/x", "b read GET /v1/a a", "", ""},
		{"a read GET /v1/a", "b read GET =/v1/a/x", "acme/a", "acme/b admits GET /v1/a/x, too"},
		{"a read GET /v1/a", "b read GET =/v1/a/x a", "acme/a", "acme/b admits GET /v1/a/x, too"},
		{"a read GET /v1/a", "b read GET =/v1/a/x a", "acme/b", "its overlaps name acme/a"},
		{"a read GET /v1/a b", "b read GET /v1/b", "acme/a", "its overlaps name acme/b"},
		{"a read GET /v1/a b", "b read POST =/v1/a/x", "acme/a", "its overlaps name acme/b"},
		// As specific somewhere, declared or not; what another rule of one of
		// the two decides is not meant.
		{"a read GET /v1/a b", "b read GET /v1/a", "acme/a", "GET /v1/a by a rule as specific as that of acme/b"},
		{"a read GET =/v1/*/x b", "b read GET =/v1/a/*", "acme/a", "GET /v1/a/x by a rule as specific"},
		{"a read GET =/v1/*/x,=/v1/a/x", "b read GET =/v1/a/* a", "", ""},
		{"a read GET =/v1/*/x,=/v1/a/x", "b read GET =/v1/a/*,=/v1/a/x a", "acme/a", "GET /v1/a/x by a rule as specific"},
		// The one is broader here, the other there.
		{"a read GET /v1/a,=/v1/a/x/y b", "b read GET /v1/a/x a", "acme/a", "neither is the broader one"},
		// Never, declared or not.
		{"a read POST =/v1/a/* b", "b write POST =/v1/a/x", "acme/a", "its access is read, but it admits POST /v1/a/x as acme/b does, which is write"},
		{"a read POST =/v1/a/x", "b write POST =/v1/a/* a", "acme/a", "its access is read, but it admits POST /v1/a/x as acme/b does, which is write"},
		{"a mixed POST =/v1/a/* b", "b read POST =/v1/a/x", "acme/b", "which is mixed"},
		{"a write PUT /v1 b", "b admin PUT =/v1/a", "acme/a", "which is admin"},
		{"a write PUT =/v1/a", "b admin PUT /v1 a", "acme/a", "which is admin"},
		{"a admin PUT =/v1/a", "b admin PUT /v1 a", "", ""},
		{"a write PUT /v1 b", "b mixed PUT =/v1/a", "", ""},
		// What cannot be told is no reason to think that there is nothing.
		{"a read GET =/v1/a*,=/v1/a*b,=/v1/ab," + tangle, "b read GET =/v1/*b", "acme/a", "what it has in common with acme/b cannot be told"},
		// An escaped slash is met where it is declared alone.
		{"a read GET /v1/*", "b read GET /v1/*%2F*", "", ""},
		{"a read GET =/v1/*%2F*", "b read GET =/v1/x%2F*", "acme/a", "acme/b admits GET /v1/x%2F"},
	} {
		var list []string
		for _, line := range []string{c.a, c.b} {
			w := strings.Fields(line)
			path := strings.NewReplacer("=", "", "*", "q").Replace(strings.Split(w[3], ",")[0])
			list = append(list, fmt.Sprintf(`{"id": "acme/%s", "description": "x", "access": %q, "methods": [%q], "paths": ["%s"], "hosts": ["api.acme.com"], "overlaps": [%s], "example": "--path %s"}`,
				w[0], w[1], w[2], strings.Join(strings.Split(w[3], ","), `", "`), strings.Join(quoted(w[4:]), ", "), path))
		}
		_, problems := File([]byte(head+`"capabilities": [`+strings.Join(list, ", ")+"]}"), beside)
		if c.where == "" && len(problems) > 0 || c.where != "" &&
			!slices.ContainsFunc(problems, func(p Problem) bool { return p.Where == c.where && strings.Contains(p.Why, c.why) }) {
			t.Errorf("%s | %s: %v", c.a, c.b, problems)
		}
	}
}

func quoted(names []string) []string {
	var out []string
	for _, n := range names {
		out = append(out, `"acme/`+n+`"`)
	}
	return out
}

func TestRequests(t *testing.T) {
	beside := load(t)
	p, err := registry.Parse([]byte(acme))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ line, why string }{
		{"allow GET api.acme.com /v1/things acme/things", ""},
		{"allow POST api.acme.com /v1/search acme/things", ""},
		{"admin POST api.acme.com /v1/members acme/members", ""},
		{"allow POST store.acme.com /shop X-Op:Get acme/shop", ""},
		{"refuse POST store.acme.com /shop", ""},
		{"refuse POST store.acme.com /shop X-Op:get", ""},
		{"refuse POST a.store.acme.com /shop X-Op:Get", ""},
		{"refuse POST acme.com /shop X-Op:Get", ""},
		{"refuse GET store.acme.com /v1/things", ""},
		{"refuse PUT api.acme.com /v1/things", ""},
		{"refuse GET api.acme.com /v1/things?k=v", ""},
		{"refuse GET api.acme.com /v1/../v1/things", ""},
		{"allow GET api.acme.com /v1/thing acme/things", "no capability admits it"},
		{"allow GET api.acme.com /v1/things?k=v acme/things", "no capability admits it: "},
		{"allow POST api.acme.com /v1/search acme/things acme/things-write", "it is admitted by acme/things"},
		{"refuse GET api.acme.com /v1/things", "it is admitted by acme/things"},
		{"allow POST api.acme.com /v1/members acme/members", "the access of acme/members is admin"},
		{"admin GET api.acme.com /v1/things acme/things", "the access of acme/things is read"},
	} {
		results, err := Requests(p, beside, "# a comment\n\n"+c.line+"\n")
		if err != nil || len(results) != 1 || results[0].Line != 3 {
			t.Fatalf("%s: %v %v", c.line, results, err)
		}
		if r := results[0]; r.OK != (c.why == "") || !strings.HasPrefix(r.Why, c.why) {
			t.Errorf("%s: %+v", c.line, r)
		}
	}
	for _, bad := range []string{
		"allow GET api.acme.com", "allow GET api.acme.com /v1/things", "refuse GET api.acme.com /x acme/things", "deny GET api.acme.com /x", "x",
	} {
		if _, err := Requests(p, beside, "\n"+bad); err == nil || !strings.HasPrefix(err.Error(), "line 2: ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// What people write never makes lint panic, and a file without problems has
// examples that its own requests would allow.
func FuzzFile(f *testing.F) {
	beside := load(f)
	f.Add([]byte(acme), "allow GET api.acme.com /v1/things acme/things")
	f.Add([]byte(strings.Replace(acme, "/v1/things/", "/v1/*/*:x/", 1)), "refuse POST store.acme.com /shop X-Op:Get")
	f.Fuzz(func(t *testing.T, file []byte, requests string) {
		p, problems := File(file, beside)
		if p == nil {
			if len(problems) == 0 {
				t.Fatal("no provider, and no problem")
			}
			return
		}
		results, err := Requests(p, beside, requests)
		if err != nil {
			return
		}
		for _, r := range results {
			if r.OK != (r.Why == "") || r.OK && !slices.Equal(r.Want, r.Admitted) {
				t.Fatalf("%+v", r)
			}
		}
	})
}

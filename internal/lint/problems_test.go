package lint

import (
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
    {"id": "acme/things", "description": "Read things.", "access": "read", "methods": ["GET", "POST"], "paths": ["=/v1/things", "=/v1/things/search"],
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
		{`"--body '{}'"`, `"--body"`, "acme/members", "nothing follows --body"},
		{`"--body '{}'"`, `"--verbose x"`, "acme/members", "not one that an example may have"},
		{`"--body '{}'"`, `"--path /v1/member"`, "acme/members", "is not what it admits"},
		{`"--body '{}'"`, `"--query k=v"`, "acme/members", "example"},
		{`"--body '{}'"`, `"-H 'X-Acme-Key: v'"`, "acme/members", "example"},
		{`"-X DELETE --path /v1/things/7`, `"--path /v1/things/7`, "acme/things-write", "no default"},
		{`"-H 'X-Op: Get'"`, `"-H 'X-Op: Put'"`, "acme/shop", "is not what it admits"},
		// Reading that covers writing, writing that covers what starts off.
		{`"=/v1/things", "=/v1/things/search"`, `"/v1"`, "acme/things", "POST /v1/things/ of acme/things-write, which is write"},
		{`"=/v1/things", "=/v1/things/search"`, `"=/v1/things", "=/v1/*"`, "acme/things", "POST =/v1/members of acme/members, which is admin"},
		{`"=/v1/things", "=/v1/things/search"`, `"=/v1/things", "=/v1/things/*"`, "acme/things", "of acme/things-write, which is write"},
		{`["/v1/things/"]`, `["/v1/things/", "/v1/"]`, "acme/things-write", "POST =/v1/members of acme/members, which is admin"},
		{`["X-Op: Get", "X-Op: List"]`, `["X-Op: Get", "X-Op: Put"]`, "acme/shop", "of acme/shop-write, which is write"},
		{`"matchHeader": ["X-Op: Get", "X-Op: List"], `, ``, "acme/shop", "of acme/shop-write, which is write"},
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

func TestRequests(t *testing.T) {
	beside := load(t)
	p, err := registry.Parse([]byte(acme))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ line, why string }{
		{"allow GET api.acme.com /v1/things acme/things", ""},
		{"allow POST api.acme.com /v1/things/search acme/things acme/things-write", ""},
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
		{"allow POST api.acme.com /v1/things/search acme/things", "it is admitted by acme/things, acme/things-write"},
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

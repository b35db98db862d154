package registry

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	files "moldable.sh/aivault/registry"
)

func compileSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(files.Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func schemaSays(t testing.TB, s *jsonschema.Schema, file []byte) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

// Every compiled-in file passes both judges, and ends up in the registry
// under its file's name.
func TestFiles(t *testing.T) {
	schema := compileSchema(t)
	reg, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	names, err := fs.Glob(files.Files, "*.json")
	if err != nil || len(names) < 10 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		data, err := fs.ReadFile(files.Files, name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := schemaSays(t, schema, data); err != nil {
			t.Errorf("%s: schema: %v", name, err)
		}
		if reg.Provider(strings.TrimSuffix(name, ".json")) == nil {
			t.Errorf("%s is not in the registry", name)
		}
	}
}

// good is a provider that uses much of the format.
const good = `{
  "schemaVersion": 1, "provider": "acme", "title": "Acme", "category": "test", "docs": "https://acme.test/docs",
  "getKey": {"text": "Ask.", "url": "https://acme.test/keys"},
  "secrets": [
    {"name": "ACME_KEY", "aliases": ["ACME_API_KEY"], "field": "secret"},
    {"name": "ACME_OAUTH", "field": "oauth"},
    {"name": "ACME_ID", "field": "id", "public": true}
  ],
  "hosts": ["{shop}.acme.test", "api.acme.test"],
  "hostParams": [{"name": "shop", "kind": "tenant", "pattern": "^[a-z0-9-]+$"}],
  "hostPatterns": ["*.acme.test"],
  "staticHeaders": [{"name": "Acme-Version", "value": "1"}, {"name": "Acme-Mode", "caller": true}, {"name": "Acme-Kind", "value": "x", "fixed": true}],
  "callerHeaders": ["X-Session-Note"], "callerQuery": ["token_kind"],
  "logins": [
    {"id": "key", "auth": {"type": "header", "headerName": "X-Acme-Key", "valueTemplate": "{{secret}}"}},
    {"id": "basic", "auth": {"type": "basic", "usernameTemplate": "{{id}}", "passwordTemplate": "{{secret}}"}},
    {"id": "oauth", "auth": {"type": "oauth2"}, "dedicated": true, "upstreamPathPrefix": "/v2",
     "oauth2": {"fields": ["oauth"], "yields": ["access_token"], "grantType": "refresh_token", "tokenEndpoint": "https://id.acme.test/token",
       "clientAuth": "body", "bodyFormat": "form", "tokenParams": {"audience": "https://{shop}.acme.test/"}, "headers": [{"name": "Authorization", "valueTemplate": "Bearer {{access_token}}"}]}}
  ],
  "capabilities": [
    {"id": "acme/things", "description": "Read things.", "access": "read", "methods": ["GET"], "paths": ["/v1/things", "=/v1/thing/*:go"],
     "hosts": ["api.acme.test"], "default": {"method": "GET", "path": "/v1/things"}, "example": "", "matchHeader": ["X-Op: Read"]},
    {"id": "acme/things-write", "description": "Write things.", "access": "write", "methods": ["POST", "DELETE"], "paths": ["/v1/things"],
     "hosts": ["api.acme.test"], "logins": ["oauth"], "issuesToken": ["/token"], "sensitive": true}
  ],
  "sets": [{"id": "acme/all", "description": "All of it.", "members": ["acme/things", "acme/things-write"], "default": "acme/things"}],
  "client": {"baseUrl": "ACME_URL", "key": "ACME_KEY"}, "notes": ["A note."]
}`

// edit replaces one text in good, which must be there.
func edit(t *testing.T, old, new string) []byte {
	t.Helper()
	if !strings.Contains(good, old) {
		t.Fatalf("%s is not in the good file", old)
	}
	out := strings.Replace(good, old, new, 1)
	if !json.Valid([]byte(out)) {
		t.Fatalf("%s: no JSON any more", new)
	}
	return []byte(out)
}

func TestParse(t *testing.T) {
	schema := compileSchema(t)
	if _, err := Parse([]byte(good)); err != nil {
		t.Fatal(err)
	}
	if err := schemaSays(t, schema, []byte(good)); err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(edit(t, `https://id.acme.test/token`, `https://{shop}.acme.test/token`)); err != nil {
		t.Fatal(err)
	}
	for _, good := range []string{
		`"methods": ["POST"], "operation": {"graphql": ["query", "mutation", "subscription"]}`, `"methods": ["POST"], "operation": {"jsonrpc": ["a", "a*", "eth_get*", "a.b:c-D_9"]}`,
	} {
		file := edit(t, `"methods": ["POST", "DELETE"]`, good)
		if _, err := Parse(file); err != nil {
			t.Error(err)
		}
		if err := schemaSays(t, schema, file); err != nil {
			t.Error(err)
		}
	}
	// Bad files that both judges refuse.
	for _, c := range [][2]string{
		{`"schemaVersion": 1`, `"schemaVersion": 2`},
		{`"provider": "acme"`, `"provider": "Acme"`},
		{`"provider": "acme"`, `"provider": ""`},
		{`"title": "Acme"`, `"title": ""`},
		{`"title": "Acme"`, `"title": "Acme", "titel": "x"`},
		{`"title": "Acme"`, `"title": " Acme"`},
		{`https://acme.test/docs`, `http://acme.test/docs`},
		{`https://acme.test/keys`, `https://user@acme.test/keys`},
		{`"ACME_KEY", "aliases"`, `"acme_key", "aliases"`},
		{`"field": "id"`, `"field": "ID"`},
		{`"{shop}.acme.test", "api.acme.test"`, `"API.acme.test"`},
		{`"{shop}.acme.test", "api.acme.test"`, `"api.acme.test/x"`},
		{`"{shop}.acme.test", "api.acme.test"`, ``},
		{`"kind": "tenant"`, `"kind": "other"`},
		{`"pattern": "^[a-z0-9-]+$"`, `"pattern": "[a-z0-9-]+"`},
		{`"pattern": "^[a-z0-9-]+$"`, `"values": ["a"]`},
		{`["*.acme.test"]`, `["acme.test"]`},
		{`"name": "Acme-Version", "value": "1"`, `"name": "Acme-Version"`},
		{`"name": "Acme-Version", "value": "1"`, `"name": "Acme Version", "value": "1"`},
		{`"name": "Acme-Version", "value": "1"`, `"name": "Acme_Version", "value": "1"`},
		{`"name": "Acme-Version", "value": "1"`, `"name": "Acme-Version", "value": "1\n2"`},
		{`"name": "Acme-Mode", "caller": true`, `"name": "Acme-Mode", "caller": true, "value": "x"`},
		{`"name": "Acme-Mode", "caller": true`, `"name": "Acme-Mode", "caller": true, "fixed": true`},
		{`"X-Session-Note"`, `"X Session"`},
		{`"type": "header", "headerName"`, `"type": "headers", "headerName"`},
		{`"headerName": "X-Acme-Key", `, ``},
		{`"valueTemplate": "{{secret}}"`, `"valueTemplate": "plain"`},
		{`"valueTemplate": "{{secret}}"`, `"valueTemplate": "{{secret}}\n"`},
		{`"valueTemplate": "{{secret}}"`, `"valueTemplate": "{{secret}}", "paramName": "q"`},
		{`"usernameTemplate": "{{id}}", "passwordTemplate": "{{secret}}"`, `"usernameTemplate": "a", "passwordTemplate": "b"`},
		{`"dedicated": true, "upstream`, `"dedicated": true, "notYet": "oauth2", "upstream`},
		{`"upstreamPathPrefix": "/v2"`, `"upstreamPathPrefix": "/v2/"`},
		{`"upstreamPathPrefix": "/v2"`, `"upstreamPathPrefix": "/v2/../x"`},
		{`"grantType": "refresh_token"`, `"grantType": "password"`},
		{`https://id.acme.test/token`, `http://id.acme.test/token`},
		{`https://id.acme.test/token`, `https://id.acme.test/token?x=1`},
		{`"clientAuth": "body"`, `"clientAuth": "header"`},
		{`"acme/things", "description"`, `"things", "description"`},
		{`"Read things."`, `""`},
		{`"access": "read"`, `"access": "readonly"`},
		{`"methods": ["GET"]`, `"methods": []`},
		{`"methods": ["GET"]`, `"methods": ["get"]`},
		{`"methods": ["GET"]`, `"methods": ["GET", "GET"]`},
		{`"methods": ["GET"]`, `"methods": ["GET", "DELETE"]`},
		{`"paths": ["/v1/things", "=/v1/thing/*:go"]`, `"paths": []`},
		{`"=/v1/thing/*:go"`, `"v1/thing"`},
		{`"=/v1/thing/*:go"`, `"/v1/../thing"`},
		{`"=/v1/thing/*:go"`, `"/v1//thing"`},
		{`"=/v1/thing/*:go"`, `"/v1/%2e%2e"`},
		{`"=/v1/thing/*:go"`, `"/v1/*%2f*"`},
		{`"=/v1/thing/*:go"`, `"/v1/*%2F"`},
		{`"=/v1/thing/*:go"`, `"/v1/*%2F/x"`},
		{`"=/v1/thing/*:go"`, `"/v1/%2F*"`},
		{`"=/v1/thing/*:go"`, `"/%2F*"`},
		{`"=/v1/thing/*:go"`, `"/v1/*%2F%2F*"`},
		{`"=/v1/thing/*:go"`, `"/v1/*%2F.."`},
		{`"=/v1/thing/*:go"`, `"/v1/*%2F.%2Fx"`},
		{`"=/v1/thing/*:go"`, `"/v1/..%2Fx"`},
		{`"=/v1/thing/*:go"`, `"/v1/*%252F*"`},
		{`"=/v1/thing/*:go"`, `"/v1/a;b"`},
		{`"=/v1/thing/*:go"`, `"/v1/a?b"`},
		{`"=/v1/thing/*:go"`, `"/v1/a\\b"`},
		{`"=/v1/thing/*:go"`, `"/v1/**"`},
		{`"=/v1/thing/*:go"`, `"/v1/thing/é"`},
		{`"=/v1/thing/*:go"`, `"/v1/things"`},
		{`"default": {"method": "GET", "path": "/v1/things"}`, `"default": {}`},
		{`"default": {"method": "GET", "path": "/v1/things"}`, `"default": {"path": "=/v1/things"}`},
		{`"default": {"method": "GET", "path": "/v1/things"}`, `"default": {"path": "/v1/*"}`},
		{`"X-Op: Read"`, `"X-Op"`},
		{`"/token"]`, `"token"]`},
		{`"sensitive": true`, `"overlaps": ["things"]`},
		{`"methods": ["POST", "DELETE"]`, `"methods": ["POST", "DELETE"], "operation": {"graphql": ["query"]}`},
		{`"methods": ["GET"]`, `"methods": ["GET"], "operation": {"graphql": ["query"]}`},
		{`"methods": ["GET"]`, `"methods": ["GET", "POST"], "operation": {"graphql": ["query"]}`},
		{`"methods": ["POST", "DELETE"]`, `"methods": ["POST"], "operation": {}`},
		{`"methods": ["POST", "DELETE"]`, `"methods": ["POST"], "operation": {"graphql": []}`},
		{`"methods": ["POST", "DELETE"]`, `"methods": ["POST"], "operation": {"graphql": ["query"], "jsonrpc": ["a"]}`},
		{`"methods": ["POST", "DELETE"]`, `"methods": ["POST"], "operation": {"graphql": ["Query"]}`},
		{`"methods": ["POST", "DELETE"]`, `"methods": ["POST"], "operation": {"graphql": ["query", "query"]}`},
		{`"methods": ["POST", "DELETE"]`, `"methods": ["POST"], "operation": {"jsonrpc": ["*"]}`},
		{`"methods": ["POST", "DELETE"]`, `"methods": ["POST"], "operation": {"jsonrpc": ["a*b"]}`},
		{`"methods": ["POST", "DELETE"]`, `"methods": ["POST"], "operation": {"jsonrpc": ["a b"]}`},
		{`"methods": ["POST", "DELETE"]`, `"methods": ["POST"], "operation": {"jsonrpc": ["a", "a"]}`},
		{`"methods": ["POST", "DELETE"]`, `"methods": ["POST"], "operation": {"rest": ["a"]}`},
		{`"methods": ["GET"]`, `"methods": ["POST"], "operation": {"graphql": ["query", "mutation"]}`},
		{`"sensitive": true`, `"overlaps": ["acme/things", "acme/things"]`},
		{`"id": "acme/all"`, `"id": "all"`},
		{`"id": "acme/all"`, `"name": "acme/all"`},
		{`"All of it."`, `""`},
		{`"members": ["acme/things", "acme/things-write"]`, `"members": []`},
		{`"members": ["acme/things", "acme/things-write"]`, `"members": ["acme/things", "acme/things"]`},
		{`"members": ["acme/things", "acme/things-write"], "default": "acme/things"`, `"members": ["acme/things", "acme/things-write"], "default": "x"`},
		{`"pattern": "^[a-z0-9-]+$"`, `"pattern": "^[a-z0-9-]+$", "default": "a"`},
		{`"kind": "tenant", "pattern": "^[a-z0-9-]+$"`, `"kind": "region", "values": ["A"]`},
		{`"kind": "tenant", "pattern": "^[a-z0-9-]+$"`, `"kind": "region", "values": ["a", "a"]`},
	} {
		file := edit(t, c[0], c[1])
		if _, err := Parse(file); err == nil {
			t.Errorf("Parse accepts %s", c[1])
		}
		if schemaSays(t, schema, file) == nil {
			t.Errorf("the schema accepts %s", c[1])
		}
	}
	// Bad files that need more than a schema.
	for _, c := range []struct{ old, new, why string }{
		{`"title": "Acme"`, `"title": "Acme", "title": "Acme"`, "title"},
		{`"title": "Acme"`, `"title": "Ac\u202eme"`, "printable"},
		{`"ACME_API_KEY"`, `"ACMEKEY"`, "twice"},
		{`"ACME_API_KEY"`, `"ACME_1D"`, "twice"},
		{`"field": "oauth"`, `"field": "secret"`, "twice"},
		{`"fields": ["oauth"]`, `"fields": ["other"]`, "not one of"},
		{`"fields": ["oauth"]`, `"fields": ["secret"]`, "used by no login"},
		{`"valueTemplate": "{{secret}}"`, `"valueTemplate": "{{secrets}}"`, "not one of"},
		{`"valueTemplate": "{{secret}}"`, `"valueTemplate": "{ {{secret}}"`, "brace"},
		{`"Bearer {{access_token}}"`, `"Bearer {{token}}"`, "not one of"},
		{`"{shop}.acme.test", "api.acme.test"`, `"{store}.acme.test", "api.acme.test"`, "unknown parameter"},
		{`"{shop}.acme.test", "api.acme.test"`, `"x.acme.test", "api.acme.test"`, "in no host"},
		{`https://id.acme.test/token`, `https://{other}.acme.test/token`, "unknown parameter"},
		{`https://{shop}.acme.test/`, `https://{other}.acme.test/`, "brace"},
		{`https://{shop}.acme.test/`, `https://{{shop}}.acme.test/`, "brace"},
		{`"{shop}.acme.test", "api.acme.test"`, `"{shop}.test", "api.acme.test"`, "registrable"},
		{`"{shop}.acme.test", "api.acme.test"`, `"{shop}.acme.test", "127.1"`, "address"},
		{`"{shop}.acme.test", "api.acme.test"`, `"{shop}.acme.test", "api.xn--acme-.test"`, "starts or ends"},
		{`"{shop}.acme.test", "api.acme.test"`, `"{shop}.acme.test", "xn--a.acme.test"`, "A-label"},
		{`"{shop}.acme.test", "api.acme.test"`, `"{shop}.acme.test", "api.acme.test."`, "dot"},
		{`"{shop}.acme.test", "api.acme.test"`, `"{shop}.acme.test", "localhost"`, "single label"},
		{`["*.acme.test"]`, `["*.test"]`, "two whole labels"},
		{`["*.acme.test"]`, `["*.acme.example"]`, "none covers"},
		{`"pattern": "^[a-z0-9-]+$"`, `"pattern": "^[a-z0-9-+$"`, "regular expression"},
		{`"Acme-Version"`, `"Authorization"`, "authenticates"},
		{`"Acme-Version"`, `"x-acme-key"`, "authenticates"},
		{`"Acme-Version"`, `"ACME-MODE"`, "twice"},
		{`"Acme-Version"`, `"Host"`, "connection"},
		{`"X-Session-Note"`, `"X-ACME_KEY"`, "cannot be the caller's"},
		{`"X-Session-Note"`, `"Cookie"`, "cannot be the caller's"},
		{`"id": "basic", "auth"`, `"id": "key", "auth"`, "twice"},
		{`"acme/things", "description"`, `"other/things", "description"`, "acme/name"},
		{`"acme/things", "description"`, `"acme/things-write", "description"`, "twice"},
		{`"path": "/v1/things"}`, `"path": "/v1/things"}, "logins": ["nobody"]`, "unknown"},
		{`"hosts": ["api.acme.test"], "default"`, `"hosts": ["evil.test"], "default"`, "not one of"},
		{`"hosts": ["api.acme.test"], "default"`, `"websocket": true, "default"`, "websocket"},
		{`"default": {"method": "GET"`, `"default": {"method": "POST"`, "not one of"},
		{`"id": "acme/all"`, `"id": "ecma/all"`, "acme/name"},
		{`"id": "acme/all"`, `"id": "acme/things-write"`, ""}, // a member's id: good
		{`"sets": [`, `"sets": [{"id": "acme/all", "description": "x", "members": ["acme/things", "acme/things-write"]}, `, "twice"},
		{`"members": ["acme/things", "acme/things-write"]`, `"members": ["acme/things", "acme/none"]`, "no capability"},
		{`"members": ["acme/things", "acme/things-write"]`, `"members": ["acme/things", "openai/models"]`, "no capability"},
		{`"acme/things-write"], "default": "acme/things"`, `"acme/things-write"], "default": "acme/all"`, "default is no member"},
		{`"acme/things-write"], "default": "acme/things"`, `"acme/things-write"], "default": "acme/things-write"`, "complete default call"},
		{`"sensitive": true`, `"overlaps": ["acme/thing"]`, "no other capability"},
		{`"sensitive": true`, `"overlaps": ["acme/all"]`, "no other capability"},
		{`"sensitive": true`, `"overlaps": ["acme/things-write"]`, "no other capability"},
		{`"sensitive": true`, `"overlaps": ["acme/things"]`, ""},
		{`"=/v1/thing/*:go"`, `"=/v1/thing/@*%2F*/a%2F.*"`, ""},
		{`"kind": "tenant", "pattern": "^[a-z0-9-]+$"`, `"kind": "region", "values": ["a"], "default": "b"`, "not one of the values"},
		{`"kind": "tenant", "pattern": "^[a-z0-9-]+$"`, `"kind": "region", "pattern": "^a$", "default": "a"`, "not one of the values"},
		{`"kind": "tenant", "pattern": "^[a-z0-9-]+$"`, `"kind": "region", "pattern": "^a$", "values": ["a"]`, "either"},
		{`"kind": "tenant", "pattern": "^[a-z0-9-]+$"`, `"kind": "region"`, "either"},
		{`"kind": "tenant", "pattern": "^[a-z0-9-]+$"`, `"kind": "region", "values": ["a..b"]`, "no part of a host"},
	} {
		var file []byte
		if file = edit(t, c.old, c.new); file == nil {
			continue
		}
		_, err := Parse(file)
		if c.why == "" {
			if err != nil {
				t.Errorf("%s: %v", c.new, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: error %v does not say %q", c.new, err, c.why)
		}
	}
}

// A set that is named as a capability has it among its members: otherwise a
// rule that names the one would not limit calls on the other.
func TestSetNamedAsACapability(t *testing.T) {
	for _, c := range []struct {
		members []string
		good    bool
	}{
		{[]string{"acme/things", "acme/things-write"}, true},
		{[]string{"acme/more", "acme/things-write"}, false},
	} {
		p, err := Parse([]byte(good))
		if err != nil {
			t.Fatal(err)
		}
		more := p.Capabilities[0]
		more.ID = "acme/more"
		p.Capabilities = append(p.Capabilities, more)
		p.Sets = []Set{{ID: "acme/things", Description: "Things.", Members: c.members}}
		if _, err := New(p); (err == nil) != c.good {
			t.Errorf("%v: %v", c.members, err)
		}
	}
}

// Whatever Parse accepts, the schema accepts too: editors never complain
// about a file that works.
func FuzzParse(f *testing.F) {
	schema := compileSchema(f)
	f.Add([]byte(good))
	f.Add([]byte(strings.Replace(good, `"/v1/things", "=`, `"/v1/[x]@!$&'()+,:~/", "=`, 1)))
	f.Add([]byte(strings.Replace(good, `"/v1/things", "=`, `"/v1/*%2F.a/*%2F*", "=`, 1)))
	f.Add([]byte(strings.Replace(good, `"sensitive": true`, `"overlaps": ["acme/things"]`, 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse(data)
		if err != nil {
			return
		}
		if _, err := New(p); err != nil {
			t.Fatalf("parsed, but New refuses: %v", err)
		}
		if err := schemaSays(t, schema, data); err != nil {
			t.Fatalf("Parse accepts what the schema refuses: %v", err)
		}
	})
}

package server_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/server"
)

// schemas are the structs of package api. A struct that is missing here fails
// TestEveryStructIsDescribed.
func schemas() []any {
	return []any{
		api.Header{}, api.Call{}, api.Request{}, api.Planned{}, api.Status{}, api.AuditStatus{}, api.ProcessStatus{}, api.VaultStatus{}, api.KeyStatus{}, api.DaemonStatus{},
		api.CallerStatus{}, api.ProviderStatus{}, api.Problem{}, api.CapabilityList{}, api.CapabilitySummary{}, api.AvailableProvider{}, api.RegistryList{}, api.RegistryProvider{},
		api.CapabilityDetail{}, api.Allowed{}, api.CapabilityCall{}, api.CallDefaults{}, api.CapabilitySetup{}, api.CapabilityCreate{},
		api.Secret{}, api.SecretList{}, api.SecretCreate{}, api.SecretUpdate{}, api.SecretRotate{}, api.SecretDeleted{},
		api.Credential{}, api.CredentialList{}, api.CredentialCreate{}, api.AuthSpec{}, api.AuthField{}, api.KeyOptions{}, api.Unlock{},
		api.VaultChanged{}, api.BackupRequest{}, api.RestoreRequest{}, api.Restored{}, api.AuditList{}, api.Error{},
		api.CapabilitySet{}, api.SecretAttach{}, api.SecretImport{}, api.SecretEntry{}, api.SecretImported{}, api.SecretImportOf{},
		api.Policy{}, api.RequireJSON{}, api.PolicyChange{}, api.PolicyList{}, api.Switch{}, api.SwitchRequest{}, api.Switched{},
		api.Consumer{}, api.ConsumerRef{}, api.Binding{}, api.BindingCreate{}, api.BindingDelete{}, api.BindingList{},
		api.Grant{}, api.GrantAdd{}, api.GrantList{}, api.GrantDefault{}, api.Explanation{}, api.Check{},
		api.OAuthStart{}, api.OAuthLogin{}, api.OAuthAnswer{}, api.OAuthSetup{}, api.OAuthConsent{}, api.OAuthToken{}, api.OAuthList{}, api.OAuthLogout{},
		api.SigV4Spec{}, api.HMACSpec{}, api.AuthPlace{}, api.MTLSSpec{}, api.OAuth2Spec{}, api.TokenExchangeSpec{}, api.TokenOptions{},
	}
}

func document(t *testing.T) map[string]any {
	t.Helper()
	b, err := os.ReadFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := parseYAML(string(b))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// dig follows keys through maps; nil where one is missing.
func dig(v any, keys ...string) any {
	for _, k := range keys {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	return v
}

func TestTheDocumentListsTheRoutes(t *testing.T) {
	doc := document(t)
	if dig(doc, "openapi") != "3.1.0" || dig(doc, "info", "version") != strconv.Itoa(api.Version) {
		t.Errorf("version %v of the API in OpenAPI %v", dig(doc, "info", "version"), dig(doc, "openapi"))
	}
	described := map[string]bool{}
	for path, item := range dig(doc, "paths").(map[string]any) {
		for method, op := range item.(map[string]any) {
			if method == "parameters" {
				continue
			}
			operator, _ := dig(op, "x-aivault-operator").(string)
			described[strings.ToUpper(method)+" "+path+" "+operator] = true
			if dig(op, "responses", "default") == nil {
				t.Errorf("%s %s says nothing of errors", method, path)
			}
		}
	}
	for _, rt := range server.Routes() {
		row := rt.Method + " " + strings.ReplaceAll(rt.Pattern, "...}", "}") + " " + strconv.FormatBool(rt.Operator)
		if !described[row] {
			t.Errorf("docs/openapi.yaml does not have %s", row)
		}
		delete(described, row)
	}
	for row := range described {
		t.Errorf("docs/openapi.yaml has %s, which the server does not", row)
	}
}

func TestTheDocumentListsTheFields(t *testing.T) {
	all := dig(document(t), "components", "schemas").(map[string]any)
	for _, v := range schemas() {
		typ := reflect.TypeOf(v)
		schema, ok := all[typ.Name()]
		if !ok {
			t.Errorf("docs/openapi.yaml has no schema %s", typ.Name())
			continue
		}
		delete(all, typ.Name())
		properties, _ := dig(schema, "properties").(map[string]any)
		var required []any
		for i := range typ.NumField() {
			f := typ.Field(i)
			if !f.IsExported() {
				continue
			}
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if options != "omitzero" {
				required = append(required, name)
			}
			p, ok := properties[name].(map[string]any)
			if !ok {
				t.Errorf("%s.%s is not described", typ.Name(), name)
				continue
			}
			delete(properties, name)
			got := map[string]any{}
			for k, v := range p {
				if k != "description" {
					got[k] = v
				}
			}
			if want := schemaOf(f.Type); !reflect.DeepEqual(got, want) {
				t.Errorf("%s.%s is %v, described as %v", typ.Name(), name, want, got)
			}
		}
		for name := range properties {
			t.Errorf("%s has no field %s", typ.Name(), name)
		}
		if got, _ := dig(schema, "required").([]any); !slices.Equal(got, required) {
			t.Errorf("%s: always there are %v, described as %v", typ.Name(), required, got)
		}
	}
	delete(all, "Code")
	for name := range all {
		t.Errorf("docs/openapi.yaml describes %s, which package api does not have", name)
	}
}

// schemaOf is how the document writes a Go type.
func schemaOf(t reflect.Type) map[string]any {
	switch t {
	case reflect.TypeFor[secret.Value]():
		return map[string]any{"type": "string", "format": "password", "writeOnly": "true"}
	case reflect.TypeFor[api.RawRecord]():
		return map[string]any{"type": "object"}
	case reflect.TypeFor[api.Code]():
		return map[string]any{"$ref": "#/components/schemas/Code"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem())
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem())}
	case reflect.Struct:
		return map[string]any{"$ref": "#/components/schemas/" + t.Name()}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int64:
		return map[string]any{"type": "integer", "format": "int64"}
	case reflect.Int:
		return map[string]any{"type": "integer"}
	case reflect.Uint32, reflect.Uint64:
		return map[string]any{"type": "integer", "minimum": "0"}
	}
	return map[string]any{"type": "string"}
}

func TestTheDocumentListsTheCodes(t *testing.T) {
	var want []any
	for _, o := range api.Outcomes() {
		want = append(want, string(o.Code))
	}
	if got := dig(document(t), "components", "schemas", "Code", "enum"); !reflect.DeepEqual(got, want) {
		t.Errorf("codes are %v, described as %v", want, got)
	}
}

func TestEveryStructIsDescribed(t *testing.T) {
	names := map[string]bool{}
	for _, v := range schemas() {
		names[reflect.TypeOf(v).Name()] = true
	}
	files, err := filepath.Glob("../api/*.go")
	if err != nil {
		t.Fatal(err)
	}
	notInJSON := map[string]bool{"Outcome": true, "CapabilityQuery": true}
	n := 0
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for name, obj := range f.Scope.Objects {
			spec, ok := obj.Decl.(*ast.TypeSpec)
			if !ok || notInJSON[name] {
				continue
			}
			if _, isStruct := spec.Type.(*ast.StructType); isStruct {
				n++
				if !names[name] {
					t.Errorf("api.%s is compared with nothing", name)
				}
			}
		}
	}
	if n < 55 {
		t.Errorf("only %d structs were found", n)
	}
}

func TestReferencesLeadSomewhere(t *testing.T) {
	doc := document(t)
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				if path, ok := strings.CutPrefix(ref, "#/"); !ok || dig(doc, strings.Split(path, "/")...) == nil {
					t.Errorf("%s leads nowhere", ref)
				}
			}
			for _, e := range v {
				walk(e)
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(doc)
}

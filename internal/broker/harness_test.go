package broker_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

var background = context.Background()

func start(t testing.TB, o aivaulttest.Options) *aivaulttest.Aivault {
	t.Helper()
	return aivaulttest.Start(t, o)
}

// acme makes a custom provider with one secret and the capability acme/all,
// which admits everything.
func acme(t testing.TB, v *aivaulttest.Aivault, value string, spec api.AuthSpec) {
	t.Helper()
	v.Create(t, "ACME_TOKEN", value)
	credential(t, v, api.CredentialCreate{
		ID: "acme", Provider: "acme", SecretRefs: map[string]string{"secret": "ACME_TOKEN"},
		Auth: &spec, Hosts: []string{aivaulttest.CustomHost},
	})
	capability(t, v, api.CapabilityCreate{ID: "acme/all", Methods: []string{"GET", "POST", "DELETE"}, Paths: []string{"/"}})
}

func bearer() api.AuthSpec { return api.AuthSpec{Type: "header"} }

func credential(t testing.TB, v *aivaulttest.Aivault, r api.CredentialCreate) {
	t.Helper()
	if _, err := v.Admin.CreateCredential(background, aivaulttest.Operator(), r); err != nil {
		t.Fatalf("create credential %s: %v", r.ID, err)
	}
}

func capability(t testing.TB, v *aivaulttest.Aivault, r api.CapabilityCreate) {
	t.Helper()
	if _, err := v.Admin.CreateCapability(background, aivaulttest.Operator(), r); err != nil {
		t.Fatalf("create capability %s: %v", r.ID, err)
	}
}

// tamper changes the state as no command would.
func tamper(t testing.TB, v *aivaulttest.Aivault, fn func(tx *vault.Tx) error) {
	t.Helper()
	if _, err := v.Vault.Update(background, audit.Record{Event: audit.CredentialCreated}, fn); err != nil {
		t.Fatal(err)
	}
}

// addSecret puts a secret into any scope.
func addSecret(tx *vault.Tx, name, scope, value, pin, field string) (string, error) {
	s := vault.Secret{ID: tx.NewID(), Name: name, Scope: scope, Version: 1, CreatedAtMs: tx.Now(), Pin: pin, Field: field}
	if err := tx.Seal(&s, secret.FromString(value)); err != nil {
		return "", err
	}
	tx.State.Secrets = append(tx.State.Secrets, s)
	return s.ID, nil
}

func get(capability, path string) api.Call {
	return api.Call{Capability: capability, Request: api.Request{Method: "GET", Path: path}}
}

// mustInvoke makes a call that has to be answered.
func mustInvoke(t testing.TB, v *aivaulttest.Aivault, call api.Call) string {
	t.Helper()
	_, body, err := v.Invoke(call)
	if err != nil {
		t.Fatalf("%s %s: %v", call.Capability, call.Request.Path, err)
	}
	return body
}

// mustRefuse makes a call that has to end with a code, and returns its error.
func mustRefuse(t testing.TB, v *aivaulttest.Aivault, call api.Call, code api.Code) *api.Error {
	t.Helper()
	_, _, err := v.Invoke(call)
	if err == nil {
		t.Fatalf("%s %s went out; want %s", call.Capability, call.Request.Path, code)
	}
	if api.CodeOf(err) != code {
		t.Fatalf("%s %s: code %s (%v), want %s", call.Capability, call.Request.Path, api.CodeOf(err), err, code)
	}
	return api.AsError(err)
}

// noneOnDisk fails when a text is in any file of the vault.
func noneOnDisk(t testing.TB, v *aivaulttest.Aivault, texts ...string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(filepath.Dir(v.Dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for _, text := range texts {
			if strings.Contains(string(data), text) {
				t.Errorf("%s holds %q", path, text)
			}
		}
		return nil
	})
	if err != nil || files < 3 {
		t.Fatalf("walked %d files: %v", files, err)
	}
}

package admin_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

// entries reads K=V texts.
func entries(pairs ...string) []api.SecretEntry {
	var list []api.SecretEntry
	for _, p := range pairs {
		k, v, _ := strings.Cut(p, "=")
		list = append(list, api.SecretEntry{Name: k, Value: secret.FromString(v)})
	}
	return list
}

func names(list []api.SecretImportOf) string {
	var out []string
	for _, l := range list {
		text := l.Name
		if l.PinnedProvider != "" {
			text += ":" + l.PinnedProvider
		}
		if l.Credential != "" {
			text += "@" + l.Credential
		}
		for _, w := range l.Waiting {
			text += "?" + w
		}
		if l.Reason != "" {
			text += " (" + l.Reason + ")"
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

func TestImport(t *testing.T) {
	o := startOffice(t)
	all := []string{
		"OPENAI_API_KEY=sk-test-0123456789", "PLAIN=plain-0123456789", "EMPTY=", "BAD NAME=v", "TRELLO_API_KEY=key-0123456789", "TRELLO_TOKEN=token-0123456789",
		"SHOP_TOKEN=shop-0123456789", "DESK_TOKEN=desk-0123456789", "PLAIN=plain-0123456789", "plain=plain-0123456789",
	}
	want := map[string]string{
		"created": "OPENAI_API_KEY:openai@openai; PLAIN; TRELLO_API_KEY:trello@trello; TRELLO_TOKEN:trello@trello; SHOP_TOKEN:shop?--host {shop}.shop.test; DESK_TOKEN:desk?DESK_EMAIL?--host {site}.desk.test",
		"rotated": "",
	}
	const skipped = "EMPTY (the value is empty); BAD NAME (the name \"BAD NAME\" holds \" \"; allowed are the letters a-z and A-Z, digits, '_', '-' and '.'); PLAIN (given twice); plain (given twice)"
	check := func(what string, got api.SecretImported, dry bool) {
		t.Helper()
		if names(got.Created) != want["created"] || names(got.Rotated) != want["rotated"] || got.DryRun != dry {
			t.Errorf("%s: created %s; rotated %s", what, names(got.Created), names(got.Rotated))
		}
		if s := strings.ReplaceAll(names(got.Skipped), ":"+"openai", ""); s != skipped {
			t.Errorf("%s: skipped %s", what, s)
		}
		for _, l := range slices.Concat(got.Created, got.Rotated, got.Skipped) {
			if dry && l.SecretID != "" {
				t.Errorf("%s: %s has an id", what, l.Name)
			}
		}
	}
	rehearsal, err := o.ImportSecrets(background, op, api.SecretImport{Entries: entries(all...), Scope: "workspace:w", DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	check("a rehearsal", rehearsal, true)
	if o.Vault.Status(background).State != vault.None {
		t.Fatal("a rehearsal made a vault")
	}
	// Again in a vault that is there: the same answer, and nothing is changed.
	o.store(t, "OTHER", "")
	generation := o.Vault.Status(background).Generation
	if rehearsal, err = o.ImportSecrets(background, op, api.SecretImport{Entries: entries(all...), Scope: "workspace:w", DryRun: true}); err != nil {
		t.Fatal(err)
	}
	check("a rehearsal in a vault", rehearsal, true)
	if now := o.Vault.Status(background).Generation; now != generation {
		t.Errorf("a rehearsal made generation %d of %d", now, generation)
	}
	given := entries(all...)
	done, err := o.ImportSecrets(background, op, api.SecretImport{Entries: given, Scope: "workspace:w"})
	if err != nil {
		t.Fatal(err)
	}
	check("the import", done, false)
	for _, e := range given {
		if strings.Trim(string(e.Value.Expose()), "\x00") != "" {
			t.Errorf("the value of %s is not wiped", e.Name)
		}
	}
	if now := o.Vault.Status(background).Generation; now != generation+1 {
		t.Errorf("the import made %d generations", now-generation)
	}
	records := aivaulttest.Events(o.Records(t), "secrets.imported")
	if len(records) != 1 || records[0]["scope"] != "workspace:w" || len(records[0]["secrets"].([]any)) != len(done.Created) {
		t.Errorf("records %v", records)
	}
	list, err := o.Secrets(background, op)
	if err != nil || len(list.Secrets) != 7 {
		t.Errorf("%d secrets, %v", len(list.Secrets), err)
	}

	// Again: what is the same is skipped, what is another is rotated.
	again, err := o.ImportSecrets(background, op, api.SecretImport{Entries: entries("OPENAI_API_KEY=sk-test-0123456789", "PLAIN=new-0123456789", "trello_token=token-9876543210"), Scope: "workspace:w"})
	if err != nil || names(again.Created) != "" || names(again.Rotated) != "PLAIN; trello_token:trello" || names(again.Skipped) != "OPENAI_API_KEY:openai (unchanged)" {
		t.Errorf("%+v, %v", again, err)
	}
	snap, err := o.Vault.Snapshot(background)
	if err != nil {
		t.Fatal(err)
	}
	v, err := snap.Open(again.Rotated[0].SecretID)
	if err != nil || string(v.Expose()) != "new-0123456789" {
		t.Errorf("rotated to %q, %v", v.Expose(), err)
	}
	for _, s := range snap.State().Secrets {
		if s.Name == "PLAIN" && (s.Version != 2 || s.RotatedAtMs == 0) || s.Name == "TRELLO_TOKEN" && (s.Version != 2 || s.Pin != "trello") {
			t.Errorf("%+v", s)
		}
	}
	// Another scope is another secret.
	if done, err = o.ImportSecrets(background, op, api.SecretImport{Entries: entries("PLAIN=new-0123456789")}); err != nil || names(done.Created) != "PLAIN" {
		t.Errorf("%+v, %v", done, err)
	}
	// Nothing to do is nothing done.
	generation = o.Vault.Status(background).Generation
	if done, err = o.ImportSecrets(background, op, api.SecretImport{Entries: entries("PLAIN=new-0123456789", "A B=v")}); err != nil || len(done.Skipped) != 2 || o.Vault.Status(background).Generation != generation {
		t.Errorf("%+v, %v", done, err)
	}
}

func TestImportThatIsRefused(t *testing.T) {
	o := startOffice(t)
	refused := func() {
		t.Helper()
		var many []string
		for i := range 1001 {
			many = append(many, fmt.Sprintf("S%d=v", i))
		}
		for _, c := range []struct {
			what string
			r    api.SecretImport
			text string
		}{
			{"nothing", api.SecretImport{}, "nothing to import"},
			{"a bad scope", api.SecretImport{Entries: entries("A=v"), Scope: "w"}, "scope"},
			{"two values", api.SecretImport{Entries: entries("A=v", "B=v", "A=w")}, `"A" is given twice`},
			{"two values in two cases", api.SecretImport{Entries: entries("A=v", "a=w")}, `"a" is given twice`},
			{"a value and none", api.SecretImport{Entries: entries("A=v", "A=")}, "twice"},
			{"too many", api.SecretImport{Entries: entries(many...)}, "1000"},
			{"too long", api.SecretImport{Entries: entries("A=v", "B="+strings.Repeat("v", 64<<10+1))}, `"B"`},
			{"what does not fit", api.SecretImport{Entries: entries("A=v", "OPENAI_API_KEY=two\nlines")}, "OPENAI_API_KEY: the value does not fit openai"},
		} {
			given := c.r.Entries
			for _, dry := range []bool{true, false} {
				c.r.DryRun = dry
				c.r.Entries = slices.Clone(given)
				for i := range c.r.Entries { // an import wipes what it is given
					c.r.Entries[i].Value = c.r.Entries[i].Value.Clone()
				}
				got, err := o.ImportSecrets(background, op, c.r)
				wants(t, c.what, err, api.InvalidRequest, c.text)
				if len(got.Created)+len(got.Rotated)+len(got.Skipped) != 0 || got.Created == nil {
					t.Errorf("%s: %+v", c.what, got)
				}
			}
		}
	}
	refused()
	if done, err := o.ImportSecrets(background, op, api.SecretImport{Entries: entries("A B=v", "C=")}); err != nil || len(done.Skipped) != 2 {
		t.Errorf("%+v, %v", done, err)
	}
	if o.Vault.Status(background).State != vault.None {
		t.Fatal("an import that stored nothing made a vault")
	}
	done, err := o.ImportSecrets(background, op, api.SecretImport{Entries: entries("A=v")})
	if err != nil || len(done.Created) != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
	generation := o.Vault.Status(background).Generation
	refused()
	if now := o.Vault.Status(background).Generation; now != generation {
		t.Errorf("refused imports: generation %d, was %d", now, generation)
	}
	// A new value that does not fit.
	o.store(t, "OPENAI_API_KEY", "")
	o.unchanged(t, "a new value that does not fit", api.InvalidRequest, "OPENAI_API_KEY: the value does not fit openai", func() error {
		_, err := o.ImportSecrets(background, op, api.SecretImport{Entries: entries("NEW=v", "OPENAI_API_KEY=two\nlines")})
		return err
	})
	generation = o.Vault.Status(background).Generation
	// Two names of one secret.
	if _, err := o.UpdateSecret(background, op, "A", api.SecretUpdate{Aliases: []string{"ALSO"}}); err != nil {
		t.Fatal(err)
	}
	o.unchanged(t, "two names of one secret", api.InvalidRequest, "A and ALSO name one secret", func() error {
		_, err := o.ImportSecrets(background, op, api.SecretImport{Entries: entries("A=x", "ALSO=y", "NEW=z")})
		return err
	})
	if done, err = o.ImportSecrets(background, op, api.SecretImport{Entries: entries("ALSO=x", "A=x")}); err != nil || names(done.Rotated) != "ALSO" || names(done.Skipped) != "A (given twice)" {
		t.Errorf("%+v, %v", done, err)
	}
	if now := o.Vault.Status(background).Generation; now != generation+2 {
		t.Errorf("generation %d, was %d", now, generation)
	}
}

// However many they are, every secret's id is in the log, under one request.
func TestALongImportIsInTheLog(t *testing.T) {
	o := startOffice(t)
	var many []string
	for i := range 50 {
		many = append(many, fmt.Sprintf("S%d=v%d", i, i))
	}
	done, err := o.ImportSecrets(background, op, api.SecretImport{Entries: entries(many...)})
	if err != nil || len(done.Created) != 50 {
		t.Fatalf("%d, %v", len(done.Created), err)
	}
	logged := map[any]bool{}
	records := aivaulttest.Events(o.Records(t), "secrets.imported")
	for i, r := range records {
		if r["requestId"] != records[0]["requestId"] || (r["generation"] != nil) != (i == len(records)-1) {
			t.Errorf("record %v", r)
		}
		for _, s := range r["secrets"].([]any) {
			logged[s.(map[string]any)["id"]] = true
		}
	}
	for _, l := range done.Created {
		if !logged[l.SecretID] {
			t.Errorf("%s is not in the log", l.Name)
		}
	}
	if len(records) != 4 || len(logged) != 50 {
		t.Errorf("%d ids in %d records", len(logged), len(records))
	}
}

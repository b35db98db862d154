package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

const (
	// maxEntries bounds one import.
	maxEntries = 1000
	// maxRecorded is how many ids one record of the audit log has room for.
	maxRecorded = 16
)

// errAsItWas ends a change that is not to be made.
var errAsItWas = errors.New("nothing is changed")

// ImportSecrets stores many secrets in one change, or none of them. The values
// are wiped.
func (a *Admin) ImportSecrets(ctx context.Context, who grant.Caller, r api.SecretImport) (api.SecretImported, error) {
	defer func() {
		for i := range r.Entries {
			r.Entries[i].Value.Wipe()
		}
	}()
	none := api.SecretImported{DryRun: r.DryRun, Created: []api.SecretImportOf{}, Rotated: []api.SecretImportOf{}, Skipped: []api.SecretImportOf{}}
	if err := a.allow(ctx, who, "secrets import"); err != nil {
		return none, err
	}
	scope, err := parseScope(r.Scope)
	if err != nil {
		return none, err
	}
	if err := checkEntries(r.Entries); err != nil {
		return none, err
	}
	// Without a vault the import is tried on an empty one first: one that
	// fails, stores nothing or is a rehearsal makes none.
	if a.vault.Status(ctx).State == vault.None {
		if err := a.vault.CanCreate(); err != nil {
			return none, err
		}
		im := &importer{admin: a, request: &r, scope: scope, tx: emptyTx()}
		answer, err := im.run()
		if err != nil {
			return none, err
		}
		if r.DryRun || len(answer.Created) == 0 {
			return answer, nil
		}
		if err := a.ready(ctx, who); err != nil {
			return none, err
		}
	}
	var answer api.SecretImported
	id := rand.Text()
	_, err = a.change(ctx, audit.Record{Event: audit.SecretsImported, RequestID: id, Caller: audit.CallerOf(who)}, func(tx *vault.Tx) (err error) {
		im := &importer{admin: a, request: &r, scope: scope, tx: tx, stored: true}
		if answer, err = im.run(); err != nil {
			return err
		}
		if r.DryRun || len(answer.Created)+len(answer.Rotated) == 0 {
			return errAsItWas
		}
		return a.recordImport(ctx, tx, im)
	})
	if err != nil && !errors.Is(err, errAsItWas) {
		return none, err
	}
	return answer, nil
}

// recordImport names every secret in the log. The change's own record has room
// for a few ids; the others are in records of the same request before it.
func (a *Admin) recordImport(ctx context.Context, tx *vault.Tx, im *importer) error {
	tx.Record.Scope = im.scope.String()
	ids := im.touchedIDs()
	if len(ids) > maxRecorded {
		log, err := a.vault.Audit(ctx)
		if err != nil {
			return err
		}
		for ; len(ids) > maxRecorded; ids = ids[maxRecorded:] {
			part := *tx.Record
			part.Secrets = ids[:maxRecorded]
			if _, err := log.Append(context.WithoutCancel(ctx), part); err != nil {
				return api.Errorf(api.VaultUnavailable, "the audit log is not written: %w", err)
			}
		}
	}
	tx.Record.Secrets = ids
	return nil
}

func checkEntries(entries []api.SecretEntry) error {
	switch {
	case len(entries) == 0:
		return api.Errorf(api.InvalidRequest, "there is nothing to import")
	case len(entries) > maxEntries:
		return api.Errorf(api.InvalidRequest, "an import has at most %d entries, not %d", maxEntries, len(entries))
	}
	first := make(map[string]int, len(entries))
	for i := range entries {
		e := &entries[i]
		if e.Value.Len() > secret.MaxSize {
			return api.Errorf(api.InvalidRequest, "%s: the value has %d bytes; %d are allowed", api.Quote(e.Name), e.Value.Len(), secret.MaxSize)
		}
		key := strings.ToLower(e.Name)
		if at, twice := first[key]; !twice {
			first[key] = i
		} else if !entries[at].Value.Equal(e.Value) {
			return api.Errorf(api.InvalidRequest, "%s is given twice, with different values", api.Quote(e.Name))
		}
	}
	return nil
}

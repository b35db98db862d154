package admin

import (
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/broker"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/vault"
)

// An importer is one import being made.
type importer struct {
	admin   *Admin
	request *api.SecretImport
	scope   grant.Scope
	tx      *vault.Tx
	stored  bool // there is a vault to store the values in
	answer  api.SecretImported
	touched map[string]int // secret id -> the entry that it has its value from
	made    []imported
}

// imported is a line of the answer and the secret that it is about.
type imported struct {
	secret  string
	created bool
	at      int // in the answer's list
}

// run decides each entry in order and applies it to tx's state.
func (im *importer) run() (api.SecretImported, error) {
	im.answer = api.SecretImported{DryRun: im.request.DryRun, Created: []api.SecretImportOf{}, Rotated: []api.SecretImportOf{}, Skipped: []api.SecretImportOf{}}
	im.touched = map[string]int{}
	for i := range im.request.Entries {
		if err := im.take(i); err != nil {
			return api.SecretImported{}, err
		}
	}
	im.complete()
	return im.answer, nil
}

func (im *importer) skip(e *api.SecretEntry, s *vault.Secret, reason string) {
	line := api.SecretImportOf{Name: e.Name, Reason: reason}
	if s != nil {
		line.SecretID, line.PinnedProvider = s.ID, s.Pin
		if im.request.DryRun || !im.stored {
			line.SecretID = ""
		}
	}
	im.answer.Skipped = append(im.answer.Skipped, line)
}

func (im *importer) take(i int) error {
	e := &im.request.Entries[i]
	if err := checkName("name", e.Name); err != nil {
		im.skip(e, nil, api.AsError(err).Message)
		return nil
	}
	if e.Value.IsZero() {
		im.skip(e, nil, "the value is empty")
		return nil
	}
	s := im.existing(e.Name)
	if s == nil {
		return im.create(i, e)
	}
	if first, twice := im.touched[s.ID]; twice {
		if !im.request.Entries[first].Value.Equal(e.Value) {
			return api.Errorf(api.InvalidRequest, "%s and %s name one secret, and have different values", im.request.Entries[first].Name, e.Name)
		}
		im.skip(e, s, "given twice")
		return nil
	}
	im.touched[s.ID] = i
	return im.rotate(e, s)
}

// existing is the secret of the scope that bears a name.
func (im *importer) existing(name string) *vault.Secret {
	for i := range im.tx.State.Secrets {
		s := &im.tx.State.Secrets[i]
		if s.Scope == im.scope.String() && broker.Bears(s, name) {
			return s
		}
	}
	return nil
}

func (im *importer) create(i int, e *api.SecretEntry) error {
	a := im.admin
	claim, claimed, err := a.claimOf(e.Name, nil)
	if err != nil {
		return err
	}
	s := vault.Secret{Name: e.Name, Scope: im.scope.String(), Version: 1, CreatedAtMs: im.tx.Now()}
	if claimed {
		if err := a.fitsProvider(claim.Provider, claim.Secret.Field, e.Value, ""); err != nil {
			return entryError(e, err)
		}
		s.Pin, s.Field = claim.Provider, claim.Secret.Field
	}
	if im.stored {
		s.ID = im.tx.NewID()
		if err := im.tx.Seal(&s, e.Value); err != nil {
			return err
		}
	} else {
		s.ID = "tried-" + strings.ToLower(e.Name)
	}
	im.tx.State.Secrets = append(im.tx.State.Secrets, s)
	im.touched[s.ID] = i
	if err := a.provision(im.tx, &s, nil, &api.Secret{}); err != nil {
		return entryError(e, err)
	}
	im.made = append(im.made, imported{secret: s.ID, created: true, at: len(im.answer.Created)})
	im.answer.Created = append(im.answer.Created, im.line(e, &s))
	return nil
}

func (im *importer) rotate(e *api.SecretEntry, s *vault.Secret) error {
	old, err := im.tx.Open(s)
	if err != nil {
		return err
	}
	same := old.Equal(e.Value)
	old.Wipe()
	if same {
		im.skip(e, s, "unchanged")
		return nil
	}
	if err := im.admin.fitsUses(im.tx, s, e.Value); err != nil {
		return entryError(e, err)
	}
	s.Version++
	s.RotatedAtMs = im.tx.Now()
	if err := im.tx.Seal(s, e.Value); err != nil {
		return err
	}
	im.made = append(im.made, imported{secret: s.ID, at: len(im.answer.Rotated)})
	im.answer.Rotated = append(im.answer.Rotated, im.line(e, s))
	return nil
}

func (im *importer) line(e *api.SecretEntry, s *vault.Secret) api.SecretImportOf {
	line := api.SecretImportOf{Name: e.Name, SecretID: s.ID, PinnedProvider: s.Pin}
	if im.request.DryRun || !im.stored {
		line.SecretID = ""
	}
	return line
}

// complete says what the new secrets did and still wait for, once all of them
// are there.
func (im *importer) complete() {
	for _, m := range im.made {
		if !m.created {
			continue
		}
		s, err := find(im.tx.State, "vault:secret:"+m.secret)
		if err != nil {
			continue
		}
		p := im.admin.registry.Provider(s.Pin)
		if p == nil {
			continue
		}
		line := &im.answer.Created[m.at]
		if c := automatic(im.tx.State, s); c != nil {
			line.Credential = c.ID
			line.Waiting = broker.MissingFor(p, c.Secrets, s.Field)
		} else if !fieldTaken(im.tx.State, s) {
			line.Waiting = waitsForHost(im.tx.State, p, s)
		}
	}
}

func (im *importer) touchedIDs() []audit.SecretUse {
	var ids []audit.SecretUse
	for _, m := range im.made {
		if s, err := find(im.tx.State, "vault:secret:"+m.secret); err == nil {
			ids = append(ids, audit.SecretUse{ID: s.ID, Version: s.Version})
		}
	}
	return ids
}

// entryError says which entry an error is about.
func entryError(e *api.SecretEntry, err error) error {
	cause := api.AsError(err)
	named := api.Errorf(cause.Code, "%s: %w", e.Name, err)
	named.Hint = cause.Hint
	return named
}

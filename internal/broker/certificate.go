package broker

import (
	"strings"
	"sync"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/auth"
	"moldable.sh/aivault/internal/secret"
)

// A certificate is what is known of one that a login shows, once it was read.
type certificate struct {
	valid auth.Validity
	err   error
}

// certified says why the client certificate that a login shows cannot be used
// now. It is read once; the time is asked each time.
func (c *credential) certified(l login) error {
	known, fields := c.certificateOf(l)
	if len(fields) == 0 {
		return nil
	}
	err := known.err
	if err == nil {
		err = known.valid.Check(c.index.clock())
	}
	if err == nil || api.CodeOf(err) == api.VaultLocked {
		return nil // a call that opens the values will say so
	}
	unusable := api.Errorf(api.AuthFailed, "credential %q: %s", c.ID, strings.TrimPrefix(api.AsError(err).Message, "auth: "))
	unusable.Hint = c.rotation(fields[0])
	return unusable
}

// rotation is the command that replaces what is in a field.
func (c *credential) rotation(field string) string {
	if s := c.index.snapshot.Secret(c.Secrets[field]); s != nil {
		return "aivault secrets rotate " + Reference(c.index.snapshot.State(), s)
	}
	return ""
}

// certificateOf is the client certificate that a login shows, and the fields
// that it is in: none where there is none, or something is missing, which is
// said elsewhere.
func (c *credential) certificateOf(l login) (certificate, []string) {
	fields := auth.CertificateFields(l.strategy)
	if !hasAll(fields, c.has) || len(fields) == 0 {
		return certificate{}, nil
	}
	read, _ := c.certificates.LoadOrStore(strings.Join(fields, " "), sync.OnceValue(func() certificate {
		return c.readCertificate(l, fields)
	}))
	return read.(func() certificate)(), fields
}

func (c *credential) readCertificate(l login, fields []string) certificate {
	opened := make(map[string]secret.Value, len(fields))
	defer wipe(opened)
	for _, f := range fields {
		v, err := c.index.snapshot.Open(c.Secrets[f])
		if err != nil {
			return certificate{err: err}
		}
		opened[f] = v
	}
	valid, err := auth.ClientCertificate(l.strategy, opened)
	return certificate{valid, err}
}

// trouble says why the credential can make no call, or not all of its calls.
func (c *credential) trouble() error {
	if err := c.check(); err != nil {
		return err
	}
	for _, l := range c.logins() {
		if err := c.certified(l); err != nil {
			return err
		}
	}
	return nil
}

// logins are all ways to authenticate that a credential which is not broken
// may have.
func (c *credential) logins() []login {
	p := c.provider.entry
	if p == nil {
		return []login{c.own}
	}
	var all []login
	for i := range p.Logins {
		if l := c.provider.logins[&p.Logins[i]]; l.strategy != nil {
			all = append(all, l)
		}
	}
	return all
}

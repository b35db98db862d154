package admin

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/auth"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

// checkCustom checks what a custom provider's credential says of itself.
func checkCustom(r *api.CredentialCreate) error {
	if r.Auth == nil {
		return api.Errorf(api.InvalidRequest, "the registry doesn't know %s: say how it authenticates", r.Provider).
			WithHint("aivault credential create %s --provider %s --auth header --host HOST --secret NAME", r.ID, r.Provider)
	}
	if _, err := auth.New(*r.Auth); err != nil {
		return err
	}
	if len(r.Hosts) == 0 {
		return api.Errorf(api.InvalidRequest, "the registry doesn't know %s: say which host it has", r.Provider).
			WithHint("aivault credential create %s --provider %s --host HOST …", r.ID, r.Provider)
	}
	for _, host := range r.Hosts {
		if err := auth.FitsHost(*r.Auth, host); err != nil {
			return err
		}
	}
	if err := checkPublicParts(r); err != nil {
		return err
	}
	if err := checkEndpoints(r); err != nil {
		return err
	}
	return checkOwnHosts(r)
}

// checkPublicParts wants fields of the auth, and something of it to stay a
// secret.
func checkPublicParts(r *api.CredentialCreate) error {
	fields := allFields(*r.Auth)
	for i, part := range r.PublicParts {
		switch {
		case !slices.Contains(fields, part):
			return api.Errorf(api.InvalidRequest, "the auth has no field %s that could be public; it has %s", api.Quote(part), strings.Join(fields, ", "))
		case slices.Contains(auth.Keys(*r.Auth), part):
			return api.Errorf(api.InvalidRequest, "field %s is a key that signs, and no public part", part)
		case slices.Contains(r.PublicParts[:i], part):
			return api.Errorf(api.InvalidRequest, "field %s is called public twice", part)
		}
	}
	if len(r.PublicParts) > 0 && len(r.PublicParts) == len(fields) {
		return api.Errorf(api.InvalidRequest, "every field of the auth is called public, and something has to be a secret")
	}
	return nil
}

func checkCAs(text string) error {
	if text == "" {
		return nil
	}
	if len(text) > maxCAPEM {
		return api.Errorf(api.InvalidRequest, "the CA file is larger than %d KiB", maxCAPEM>>10)
	}
	rest, found := []byte(text), false
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return api.Errorf(api.InvalidRequest, "the CA file holds %s, and only certificates belong there", api.Quote(block.Type))
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return api.Errorf(api.InvalidRequest, "the CA file holds a certificate that cannot be read")
		}
		found = true
	}
	if !found || strings.TrimSpace(string(rest)) != "" {
		return api.Errorf(api.InvalidRequest, "the CA file is not made of PEM certificates alone")
	}
	return nil
}

// allFields are the fields of an auth, those that it can do without last.
func allFields(spec api.AuthSpec) []string {
	return slices.Concat(auth.SecretFields(spec), auth.OptionalFields(spec))
}

// takeCustom decides whether a secret may serve as a field of a custom
// provider's credential.
func takeCustom(r *api.CredentialCreate, field string, s *vault.Secret) (string, error) {
	wanted := allFields(*r.Auth)
	if field == "" && len(wanted) == 1 {
		field = wanted[0]
	}
	if field == "" {
		return "", api.Errorf(api.InvalidRequest, "say which field of the auth this secret is, as FIELD=NAME; it has %s", strings.Join(wanted, ", "))
	}
	if !slices.Contains(wanted, field) {
		return "", api.Errorf(api.InvalidRequest, "the auth has no field %s; it has %s", api.Quote(field), strings.Join(wanted, ", "))
	}
	return field, nil
}

// completeCustom checks that the secrets are those that the auth names, and
// that it can send their values.
func (a *Admin) completeCustom(tx *vault.Tx, c *vault.Credential, r *api.CredentialCreate) error {
	values := map[string]secret.Value{}
	defer func() {
		for _, v := range values {
			v.Wipe()
		}
	}()
	optional := auth.OptionalFields(*r.Auth)
	for _, field := range allFields(*r.Auth) {
		id := c.Secrets[field]
		if id == "" && slices.Contains(optional, field) {
			continue
		}
		if id == "" {
			return api.Errorf(api.InvalidRequest, "the auth needs a secret for its field %s", api.Quote(field)).
				WithHint("add --secret %s=NAME", field)
		}
		s, err := find(tx.State, "vault:secret:"+id)
		if err != nil {
			return err
		}
		if values[field], err = tx.Open(s); err != nil {
			return err
		}
	}
	if err := auth.Try(*r.Auth, values, a.clock()); err != nil {
		return api.Errorf(api.InvalidRequest, "the secret does not fit the auth: %s", strings.TrimPrefix(err.Error(), "auth: "))
	}
	spec := *r.Auth
	c.Auth, c.Hosts, c.CAPEM = &spec, slices.Clone(r.Hosts), r.CAPEM
	c.AllowPrivateNetwork, c.AllowPorts, c.AllowHTTP = r.AllowPrivateNetwork, slices.Clone(r.AllowPorts), r.AllowHTTP
	c.PublicParts = slices.Clone(r.PublicParts)
	return nil
}

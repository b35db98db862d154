package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/secret"
)

// mtls shows a client certificate in the TLS handshake, alone or beside
// another strategy.
type mtls struct {
	cert, key string // fields; the same where one holds both
	plus      plan   // nil: the certificate is all
}

func newMTLS(spec api.AuthSpec) (plan, error) {
	m := spec.MTLS
	switch {
	case m == nil:
		return nil, invalid("mtls", "is missing: it names the fields of certificate and key")
	case !validFieldName(m.CertField):
		return nil, invalid("mtls.certField", "%q is not a field's name: letters, digits, _ and - are, behind a letter", m.CertField)
	case !validFieldName(m.KeyField):
		return nil, invalid("mtls.keyField", "%q is not a field's name: letters, digits, _ and - are, behind a letter", m.KeyField)
	case m.Plus == nil:
		return mtls{cert: m.CertField, key: m.KeyField}, nil
	}
	switch m.Plus.Type {
	case "mtls", "oauth2", "token-exchange":
		return nil, invalid("mtls.plus.type", "%q cannot stand beside a client certificate", m.Plus.Type)
	}
	plus, err := newPlan(*m.Plus)
	if err != nil {
		return nil, within("mtls.plus.", err)
	}
	for _, t := range plus.templates() {
		if t.names(m.KeyField) {
			return nil, invalid("mtls.plus", "uses field %q, which is the private key and never sent", m.KeyField)
		}
	}
	return mtls{m.CertField, m.KeyField, plus}, nil
}

// Additions implements Strategy. The certificate's key stays with egress for
// as long as it keeps the connections that were made with it.
func (m mtls) Additions(ctx context.Context, in Input) (egress.Additions, error) {
	certificate, err := m.certificate(in.Fields)
	if err != nil {
		return egress.Additions{}, err
	}
	if err := m.validity(certificate.Leaf).Check(in.Now); err != nil {
		return egress.Additions{}, err
	}
	var add egress.Additions
	if m.plus != nil {
		if add, err = m.plus.Additions(ctx, in); err != nil {
			return egress.Additions{}, err
		}
	}
	add.Certificate = certificate
	return add, nil
}

// certificate reads chain and key, and checks that they belong together.
func (m mtls) certificate(fields map[string]secret.Value) (*tls.Certificate, error) {
	both := m.cert == m.key
	chain, err := parseChain(m.cert, fields[m.cert], both)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(m.key, fields[m.key], both)
	if err != nil {
		return nil, err
	}
	if !belongs(chain[0], key) {
		for _, c := range chain[1:] {
			if belongs(c, key) {
				return nil, unfit(m.cert, "has the certificate of the key behind others, and it has to be the first")
			}
		}
		return nil, api.Errorf(api.AuthFailed, "auth: the private key in field %q is not that of the certificate in field %q", m.key, m.cert).
			WithHint("store the two that were issued together: aivault secrets rotate NAME")
	}
	certificate := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		certificate.Certificate = append(certificate.Certificate, c.Raw)
	}
	return certificate, nil
}

func belongs(c *x509.Certificate, key tlsKey) bool {
	public, ok := c.PublicKey.(publicKey)
	return ok && public.Equal(key.Public())
}

// Validity is when a client certificate may be shown.
type Validity struct {
	Field               string // that holds it
	NotBefore, NotAfter time.Time
}

func (m mtls) validity(leaf *x509.Certificate) Validity {
	return Validity{m.cert, leaf.NotBefore, leaf.NotAfter}
}

// Check is nil while the certificate is valid; else the error (auth_failed)
// says until or from when it is.
func (v Validity) Check(now time.Time) error {
	const form = "2006-01-02T15:04:05Z"
	switch {
	case now.After(v.NotAfter):
		return api.Errorf(api.AuthFailed, "auth: the client certificate in field %q ended on %s", v.Field, v.NotAfter.UTC().Format(form)).
			WithHint("store a new one: aivault secrets rotate NAME")
	case now.Before(v.NotBefore):
		return api.Errorf(api.AuthFailed, "auth: the client certificate in field %q is not valid before %s", v.Field, v.NotBefore.UTC().Format(form)).
			WithHint("wait until then, or store another: aivault secrets rotate NAME")
	}
	return nil
}

// CertificateFields are the fields of a strategy's client certificate and key,
// none of one that shows none.
func CertificateFields(s Strategy) []string {
	m, ok := s.(mtls)
	switch {
	case !ok:
		return nil
	case m.cert == m.key:
		return []string{m.cert}
	}
	return []string{m.cert, m.key}
}

// ClientCertificate says when the certificate that a strategy shows is valid.
// It fails (auth_failed) like Additions where certificate and key cannot be
// used, but for the time, which is for Validity.Check.
func ClientCertificate(s Strategy, fields map[string]secret.Value) (Validity, error) {
	m, ok := s.(mtls)
	if !ok {
		return Validity{}, nil
	}
	certificate, err := m.certificate(fields)
	if err != nil {
		return Validity{}, err
	}
	return m.validity(certificate.Leaf), nil
}

// try implements tryer: of certificate and key, those that are there are
// looked at, together where both are.
func (m mtls) try(in Input, have map[string]bool) error {
	both := m.cert == m.key
	if have[m.cert] {
		chain, err := parseChain(m.cert, in.Fields[m.cert], both)
		if err != nil {
			return err
		}
		if err := m.validity(chain[0]).Check(in.Now); err != nil {
			return err
		}
	}
	if have[m.key] {
		if _, err := parseKey(m.key, in.Fields[m.key], both); err != nil {
			return err
		}
	}
	if have[m.cert] && have[m.key] {
		if _, err := m.certificate(in.Fields); err != nil {
			return err
		}
	}
	if m.plus == nil {
		return nil
	}
	return try(m.plus, in, have)
}

// SignsBody implements Strategy.
func (m mtls) SignsBody(r *policy.Request, to egress.Destination) bool {
	return m.plus != nil && m.plus.SignsBody(r, to)
}

func (m mtls) templates() []template {
	all := []template{{{field: m.cert}}, {{field: m.key}}}
	if m.plus != nil {
		all = append(all, m.plus.templates()...)
	}
	return all
}

func (m mtls) queryParams() []string {
	if m.plus == nil {
		return nil
	}
	return m.plus.queryParams()
}

func (m mtls) headerNames() []string {
	if m.plus == nil {
		return nil
	}
	return m.plus.headerNames()
}

// parts implements partial.
func (m mtls) parts(fields map[string]secret.Value) []secret.Value {
	if m.plus == nil {
		return nil
	}
	return Parts(m.plus, fields)
}

// keys implements keyed.
func (m mtls) keys() []string {
	own := []string{m.key}
	if m.plus != nil {
		own = append(own, keysOf(m.plus)...)
	}
	return own
}

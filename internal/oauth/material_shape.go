package oauth

import (
	"bytes"

	"moldable.sh/aivault/internal/secret"
)

// A shape is what a secret looks like, in words for people.
type shape string

const (
	shapeNone       shape = ""
	shapeAccount    shape = "a service account's key"
	shapeFederated  shape = "the configuration of a workload identity, which holds no key"
	shapeRefresh    shape = "an OAuth client with its refresh token"
	shapeAccess     shape = "an access token without a refresh token"
	shapeClient     shape = "an OAuth client without a refresh token"
	shapeAWS        shape = "an AWS access key"
	shapeGitHubApp  shape = "the key of a GitHub App"
	shapeKey        shape = "a private key in PEM"
	shapeCert       shape = "a certificate in PEM"
	shapeCertAndKey shape = "a certificate in PEM with its private key"
)

// Shape says in words what a value is, for errors: "a service account's key".
// It is "" for what looks like nothing in particular.
func Shape(v secret.Value) string { return string(shapeOf(v.Expose())) }

func shapeOf(text []byte) shape {
	text = bytes.TrimSpace(text)
	switch {
	case len(text) > 0 && text[0] == '{':
		m, err := materialOf(map[string]secret.Value{"material": secret.New(bytes.Clone(text))})
		if err != nil {
			return shapeNone
		}
		defer m.wipe()
		return m.shape()
	case bytes.Contains(text, []byte("-----BEGIN ")):
		return pemShape(text)
	case bytes.Contains(bytes.ToLower(text), []byte("aws_access_key_id")) && bytes.IndexByte(text, '=') > 0:
		return shapeAWS
	}
	return shapeNone
}

func pemShape(text []byte) shape {
	key, cert := bytes.Contains(text, []byte("PRIVATE KEY-----")), bytes.Contains(text, []byte("-----BEGIN CERTIFICATE-----"))
	switch {
	case key && cert:
		return shapeCertAndKey
	case key:
		return shapeKey
	case cert:
		return shapeCert
	}
	return shapeNone
}

func (m *material) shape() shape {
	has := func(name string) bool { return !m.values[name].IsZero() }
	switch kind := string(m.values["type"].Expose()); {
	case kind == "external_account" || kind == "impersonated_service_account":
		return shapeFederated
	case kind == "service_account", has("private_key") && has("client_email"):
		return shapeAccount
	case has("private_key") && has("app_id"):
		return shapeGitHubApp
	case has("access_key_id") && has("secret_access_key"), has("aws_access_key_id"):
		return shapeAWS
	case has("refresh_token"):
		return shapeRefresh
	case has("access_token"):
		return shapeAccess
	case has("client_id"):
		return shapeClient
	}
	return shapeNone
}

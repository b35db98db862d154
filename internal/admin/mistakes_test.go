package admin_test

import (
	"strings"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

// What could never work is refused with what a person needs next: a command
// that names what they gave.
func TestMistakesWithLogins(t *testing.T) {
	t.Parallel()
	v := aivaulttest.Start(t, aivaulttest.Options{})
	refused := func(what string, err error, code api.Code, message, hint string) {
		t.Helper()
		e := api.AsError(err)
		if err == nil || e.Code != code || !strings.Contains(e.Message, message) || e.Hint != hint || strings.Contains(e.Message, "auth: ") {
			t.Errorf("%s: %v, hint %q; want %s, %q, hint %q", what, err, e, code, message, hint)
		}
	}
	create := func(name, value string) error {
		_, err := v.Admin.CreateSecret(t.Context(), op, api.SecretCreate{Name: name, Value: secret.FromString(value), Scope: "global"})
		return err
	}
	const id, key = "aws_access_key_id=AKIAIOSFODNN7EXAMPLE\n", "aws_secret_access_key=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n"
	two := "[one]\n" + id + key + "[two]\n" + id + key
	store := "store the right value: aivault secrets create --name AWS_CREDENTIALS --value-file FILE"
	refused("two profiles", create("AWS_CREDENTIALS", two), api.InvalidRequest, "the value does not fit aws: it holds several profiles, and none is [default]", store)
	refused("an OAuth client", create("AWS_CREDENTIALS", `{"client_id":"a","client_secret":"b"}`), api.InvalidRequest, "it looks like an OAuth client without a refresh token, and holds no access_key_id", store)
	refused("an app's id", create("GITHUB_APP_ID", "my app"), api.InvalidRequest, "it is no app_id", "store that alone, which is no secret: --value NUMBER")
	v.Create(t, "AWS_CREDENTIALS", "[one]\n"+id+key)
	_, err := v.Admin.RotateSecret(t.Context(), op, "AWS_CREDENTIALS", api.SecretRotate{Value: secret.FromString(two)})
	refused("two profiles later", err, api.InvalidRequest, "several profiles", "store the right value: aivault secrets rotate AWS_CREDENTIALS --value-file FILE")

	v.Create(t, "KEYS", "[one]\n"+id+key)
	v.Create(t, "CLIENT", `{"client_id":"a","client_secret":"b","refresh_token":"c"}`)
	credential := func(name string, spec api.AuthSpec, token *api.TokenOptions) error {
		_, err := v.Admin.CreateCredential(t.Context(), op, api.CredentialCreate{
			ID: "own", Provider: "own", Scope: "global", Auth: &spec, Token: token, Hosts: []string{"api.acme.test"}, SecretRefs: map[string]string{"": name},
		})
		return err
	}
	signed := api.AuthSpec{Type: "aws-sigv4", SigV4: &api.SigV4Spec{Fields: []string{"secret"}, Service: "s3", Region: "auto"}}
	refused("a role of no AWS", credential("KEYS", signed, &api.TokenOptions{RoleARN: "arn:aws:iam::123456789012:role/reader"}), api.InvalidRequest, `region "auto"`, "leave out --role-arn")
	spec := func(endpoint string, params map[string]string) api.AuthSpec {
		return api.AuthSpec{Type: "oauth2", OAuth2: &api.OAuth2Spec{
			GrantType: "refresh_token", Fields: []string{"secret"}, TokenEndpoint: endpoint, TokenParams: params,
			Headers: []api.AuthField{{Name: "Authorization", ValueTemplate: "Bearer {{access_token}}"}},
		}}
	}
	refused("a private endpoint", credential("CLIENT", spec("https://10.0.0.1/token", nil), nil), api.PolicyViolation, `the token endpoint "https://10.0.0.1/token"`, "add --allow-private-network")
	for _, own := range []string{"grant_type", "refresh_token", "client_secret"} {
		refused("a parameter twice", credential("CLIENT", spec("https://id.acme.test/token", map[string]string{own: "x"}), nil), api.InvalidRequest, "which the grant sends itself", "")
	}
	if err := credential("CLIENT", spec("https://id.acme.test/token", map[string]string{"audience": "x"}), nil); err != nil {
		t.Error(err)
	}
	for _, ref := range []string{"own", "CLIENT"} {
		_, err = v.Admin.Logout(t.Context(), op, ref)
		refused("logging out of what no login got", err, api.SecretNotFound, "tokens that oauth login did not get", "aivault secrets delete CLIENT")
	}
	_, err = v.Admin.Logout(t.Context(), op, "nobody")
	refused("logging out of nothing", err, api.SecretNotFound, "nobody is logged in", "aivault oauth status")
}

package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
)

// maxCAFile bounds a file of CA certificates.
const maxCAFile = 1 << 20

func newCredentialCreate(o *Options) *cobra.Command {
	var r api.CredentialCreate
	var refs, names []string
	var caFile string
	cmd := &cobra.Command{
		Use:   "create ID --provider PROVIDER",
		Short: "Make a credential from stored secrets",
		Long: "Makes a credential. For a provider of the registry its auth and hosts are known; for any other\n" +
			"give --auth with its flags and at least one --host. Templates name secrets by field, as\n" +
			"{{field}}; a credential with one secret calls it {{secret}}.\n\n" +
			"A provider of the registry that gives each account a host of its own (my-store.myshopify.com)\n" +
			"takes that host, which then belongs to the secret's value: another tenant needs another value.\n\n" +
			"--ca-file, --allow-private-network, --allow-port and --allow-http are exceptions for this\n" +
			"credential alone. For a provider of the registry they are refused, unless it is one that people\n" +
			"host themselves.",
		Example: "  aivault credential create acme --provider acme --auth header --host api.acme.test --secret ACME_KEY\n" +
			"  aivault credential create acme --provider acme --auth basic --host api.acme.test \\\n" +
			"    --secret username=ACME_USER --secret password=ACME_PASSWORD \\\n" +
			"    --username-template '{{username}}' --password-template '{{password}}'\n" +
			"  aivault credential create hooks --auth hmac --hmac-algorithm sha256 --header-name X-Acme-Signature \\\n" +
			"    --value-template 'sha256={{signature}}' --secret ACME_KEY --host api.acme.test\n" +
			"  aivault credential create bank --auth mtls --secret cert=ACME_CERT --secret key=ACME_CERT_KEY --host api.acme.test\n" +
			"  aivault credential create lab --provider lab --auth query --query-param key --secret LAB_KEY \\\n" +
			"    --host lab.internal:8443 --allow-port 8443 --allow-private-network --ca-file lab-ca.pem\n" +
			"  aivault credential create printer --auth header --secret LAB_KEY --host printer.internal --allow-http\n" +
			"  aivault credential create acme-eu --auth header --host eu.acme.test --secret ACME_KEY \\\n" +
			"    --workspace-id acme\n" +
			"  aivault credential create reports --auth aws-sigv4 --aws-service s3 --aws-region auto \\\n" +
			"    --host 0123abcd.r2.cloudflarestorage.com --secret access_key_id=R2_ID --secret secret_access_key=R2_KEY\n" +
			"  aivault credential create audit --provider aws --host s3.eu-west-1.amazonaws.com \\\n" +
			"    --secret AWS_ACCESS_KEY_ID --secret AWS_SECRET_ACCESS_KEY \\\n" +
			"    --role-arn arn:aws:iam::123456789012:role/reader --external-id 4f2a",
	}
	id := newIDArg(cmd, "credential", "id")
	f := cmd.Flags()
	f.StringVar(&r.Provider, "provider", "", "the `PROVIDER`, of the registry or a name of your own (default: the id)")
	f.StringArrayVar(&refs, "secret-ref", nil, "a secret by reference, `[FIELD=]vault:secret:ID`; may be repeated")
	f.StringArrayVar(&names, "secret", nil, "a secret by name, alias or id, `[FIELD=]NAME`; may be repeated")
	auth := newAuthFlags(cmd)
	var role roleFlags
	role.add(cmd)
	var token tokenFlags
	token.add(cmd)
	f.StringArrayVar(&r.Hosts, "host", nil, "a host that it may go to, `NAME[:PORT]`; may be repeated; of a provider of the registry the account's own host")
	f.StringArrayVar(&r.PublicParts, "public-part", nil, "the value of this `FIELD` is no secret and stays in answers; may be repeated")
	scope := newScopeFlags(cmd, "whose it is")
	f.StringVar(&caFile, "ca-file", "", "trust the CA certificates (PEM) in `FILE` for these hosts")
	f.BoolVar(&r.AllowPrivateNetwork, "allow-private-network", false, "let it reach private and loopback addresses")
	f.IntSliceVar(&r.AllowPorts, "allow-port", nil, "let it use this `PORT` beside 443; may be repeated")
	f.BoolVar(&r.AllowHTTP, "allow-http", false, "call over plain http, to private and loopback addresses alone")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if r.ID, err = id.get(args); err != nil {
			return err
		}
		if r.Provider == "" {
			r.Provider = r.ID
		}
		if r.Scope, err = scope.get(cmd); err != nil {
			return err
		}
		if r.SecretRefs, err = secretRefs(r.Provider, refs, names); err != nil {
			return err
		}
		if r.Auth, err = auth.spec(cmd, r.SecretRefs, token.scopes); err != nil {
			return err
		}
		if err = token.into(&r.Token, r.Auth != nil); err != nil {
			return err
		}
		if err = role.into(&r.Token); err != nil {
			return err
		}
		if caFile != "" {
			pem, err := o.readAll(cmd.Context(), "ca-file", caFile, maxCAFile)
			if err != nil {
				return err
			}
			r.CAPEM = string(pem)
		}
		return createCredential(cmd.Context(), o, r)
	}
	return cmd
}

func createCredential(ctx context.Context, o *Options, r api.CredentialCreate) error {
	return o.withClient(ctx, func(c *client.Client) error {
		cred, err := c.CreateCredential(ctx, r)
		if err != nil {
			return err
		}
		if o.JSON {
			return o.printJSON(cred)
		}
		of := "provider: " + cred.Provider
		if cred.Tenant != "" {
			of += ", " + cred.Tenant
		}
		o.say("Credential created: %s (%s)", cred.ID, of)
		if !cred.Ready && cred.Problem != "" {
			o.notice("not ready: %s", cred.Problem)
		}
		if cred.Notice != "" {
			o.notice("%s", cred.Notice)
		}
		return nil
	})
}

// authFlags are the flags of every strategy.
type authFlags struct {
	auth            api.AuthSpec
	headers, params []string
	hmac            hmacFlags
	aws             awsFlags
	mtls            mtlsFlags
	oauth           oauthFlags
}

// authKind is a strategy with the flag that it cannot do without.
type authKind struct{ name, needs string }

func authKinds() []authKind {
	return []authKind{
		{"header", ""}, {"query", "query-param"}, {"path", "path-prefix-template"}, {"basic", ""},
		{"multi-header", "auth-header"}, {"multi-query", "auth-query"},
		{"aws-sigv4", ""}, {"hmac", "hmac-algorithm"}, {"mtls", ""},
		{"oauth2", "grant-type"}, {"token-exchange", "token-param"},
	}
}

func authKindNames() []string {
	var names []string
	for _, k := range authKinds() {
		names = append(names, k.name)
	}
	return names
}

func newAuthFlags(cmd *cobra.Command) *authFlags {
	a := &authFlags{}
	f := cmd.Flags()
	f.StringVar(&a.auth.Type, "auth", "", "how it authenticates, by `KIND`: "+words(authKindNames()))
	f.StringVar(&a.auth.HeaderName, "header-name", "", "header, hmac, oauth2, token-exchange: the header's `NAME` (default Authorization; hmac: none)")
	f.StringVar(&a.auth.ValueTemplate, "value-template", "", "header, query, hmac, oauth2, token-exchange: what is sent, as a `TEMPLATE` (default \"Bearer {{secret}}\" under Authorization, else \"{{secret}}\"; hmac: \"{{signature}}\"; of a token {{access_token}})")
	f.StringVar(&a.auth.ParamName, "query-param", "", "query: the parameter's `NAME`")
	f.StringVar(&a.auth.PrefixTemplate, "path-prefix-template", "", "path: what is put before the path, as a `TEMPLATE`, e.g. /bot{{secret}}")
	f.StringArrayVar(&a.headers, "auth-header", nil, "multi-header, hmac: `NAME=TEMPLATE`; may be repeated")
	f.StringArrayVar(&a.params, "auth-query", nil, "multi-query: `NAME=TEMPLATE`; may be repeated")
	f.StringVar(&a.auth.UsernameTemplate, "username-template", "", "basic: the user name, as a `TEMPLATE`")
	f.StringVar(&a.auth.PasswordTemplate, "password-template", "", "basic: the password, as a `TEMPLATE`")
	a.aws.add(cmd)
	a.hmac.add(cmd)
	a.mtls.add(cmd)
	a.oauth.add(cmd)
	completeWords(cmd, "auth", authKindNames()...)
	return a
}

// authFlagKinds says which strategies a flag belongs to.
func authFlagKinds() []struct{ flag, kinds string } {
	return []struct{ flag, kinds string }{
		{"header-name", "header hmac oauth2 token-exchange"},
		{"value-template", "header query hmac oauth2 token-exchange"},
		{"query-param", "query"},
		{"path-prefix-template", "path"},
		{"auth-header", "multi-header hmac"},
		{"auth-query", "multi-query"},
		{"username-template", "basic"},
		{"password-template", "basic"},
		{"aws-service", "aws-sigv4"},
		{"aws-region", "aws-sigv4"},
		{"hmac-algorithm", "hmac"},
		{"hmac-sign", "hmac"},
		{"hmac-encoding", "hmac"},
		{"hmac-key-encoding", "hmac"},
		{"hmac-timestamp-header", "hmac"},
		{"hmac-timestamp-unit", "hmac"},
		{"hmac-nonce-header", "hmac"},
		{"grant-type", "oauth2"},
		{"token-endpoint", "oauth2 token-exchange"},
		{"client-auth", "oauth2"},
		{"token-body", "oauth2 token-exchange"},
		{"token-param", "oauth2 token-exchange"},
		{"oauth-scope-separator", "oauth2"},
		{"token-field", "token-exchange"},
	}
}

// spec returns nil without --auth. A flag of another strategy is an error
// rather than ignored. secrets are those of the credential, by field.
func (a *authFlags) spec(cmd *cobra.Command, secrets map[string]string, scopes []string) (*api.AuthSpec, error) {
	for _, k := range authFlagKinds() {
		kinds := strings.Fields(k.kinds)
		if cmd.Flags().Changed(k.flag) && !slices.Contains(kinds, a.auth.Type) {
			return nil, api.Errorf(api.InvalidRequest, "--%s belongs to --auth %s", k.flag, words(kinds))
		}
	}
	if err := a.mtls.check(a.auth.Type); err != nil {
		return nil, err
	}
	if a.auth.Type == "" {
		return nil, nil
	}
	if len(scopes) > 0 && a.auth.Type != "oauth2" {
		return nil, api.Errorf(api.InvalidRequest, "--oauth-scope belongs to --auth oauth2")
	}
	if err := a.complete(cmd); err != nil {
		return nil, err
	}
	spec := a.auth
	var err error
	if spec.Headers, err = authFields("auth-header", a.headers); err != nil {
		return nil, err
	}
	if spec.Params, err = authFields("auth-query", a.params); err != nil {
		return nil, err
	}
	switch spec.Type {
	case "aws-sigv4":
		spec = a.aws.spec(spec, secrets)
	case "hmac":
		spec = a.hmac.spec(spec)
	case "oauth2", "token-exchange":
		if spec, err = a.oauth.spec(spec, scopes, secrets); err != nil {
			return nil, err
		}
	}
	spec = a.mtls.spec(spec, secrets)
	return &spec, nil
}

// complete says in the words of the command line what a strategy lacks; the
// daemon would say it in those of the API.
func (a *authFlags) complete(cmd *cobra.Command) error {
	at := slices.IndexFunc(authKinds(), func(k authKind) bool { return k.name == a.auth.Type })
	if at < 0 {
		return api.Errorf(api.InvalidRequest, "--auth cannot be %q: it takes %s", a.auth.Type, words(authKindNames()))
	}
	if flag := authKinds()[at].needs; flag != "" && !cmd.Flags().Changed(flag) {
		return api.Errorf(api.InvalidRequest, "--auth %s needs --%s", a.auth.Type, flag)
	}
	switch a.auth.Type {
	case "hmac":
		return a.hmac.check(a.auth.HeaderName)
	case "oauth2", "token-exchange":
		return a.oauth.check(a.auth.Type)
	}
	return nil
}

func authFields(flag string, pairs []string) ([]api.AuthField, error) {
	var out []api.AuthField
	for _, p := range pairs {
		name, value, err := splitPair(flag, p)
		if err != nil {
			return nil, err
		}
		out = append(out, api.AuthField{Name: name, ValueTemplate: value})
	}
	return out, nil
}

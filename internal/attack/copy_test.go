package attack_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/attack"
	"moldable.sh/aivault/internal/client"
	env "moldable.sh/aivault/internal/daemon"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/standin"
)

// operatorOf is a client of a daemon with a new vault.
func operatorOf(t *testing.T) (attack.Config, *client.Client) {
	t.Helper()
	cfg := daemon(t)
	e, err := env.ParseEnv([]string{"HOME=" + cfg.Dir, "AIVAULT_DIR=" + cfg.Dir, "AIVAULTD_AUTOSTART=0", "AIVAULT_DISABLE_DISK_LOGS=1"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Connect(t.Context(), client.Config{Env: e})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := c.Init(t.Context(), api.KeyOptions{Provider: keysource.File}); err != nil {
		t.Fatal(err)
	}
	return cfg, c
}

// listed is all that a daemon tells of its configuration, without what is
// another in each vault: ids, times, and whether a grant has ended meanwhile.
func listed(t *testing.T, c *client.Client) map[string]any {
	t.Helper()
	ctx := t.Context()
	all := map[string]any{}
	names := map[string]string{}
	secrets, err := c.Secrets(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range secrets.Secrets {
		names[s.ID] = s.Name + " of " + s.Scope
		s.ID, s.CreatedAtMs = "", 0
		all["secret "+s.Name+" of "+s.Scope] = s
	}
	credentials, err := c.Credentials(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range credentials.Credentials {
		r.CreatedAt = 0
		for field, id := range maps.Clone(r.Secrets) {
			r.Secrets[field] = names[id]
		}
		all["credential "+r.ID] = r
	}
	capabilities, err := c.Capabilities(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range capabilities.Capabilities {
		all["capability "+k.ID] = k
		if k.Origin == "custom" {
			if all["capability "+k.ID], err = c.Capability(ctx, k.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	policies, err := c.Policies(ctx)
	if err != nil {
		t.Fatal(err)
	}
	all["policies"] = policies
	bindings, err := c.Bindings(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bindings.Bindings {
		b.ID, b.CreatedAtMs = "", 0
		all["binding "+b.Capability+b.Credential] = b
	}
	grants, err := c.Grants(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range grants.Grants {
		if slices.Contains(g.Capabilities, attack.Provider+"*") {
			continue // the suite's own
		}
		g.ID, g.CreatedAtMs = "", 0
		if g.ExpiresAtMs != 0 {
			g.ExpiresAtMs = time.UnixMilli(g.ExpiresAtMs).Round(time.Hour).UnixMilli()
		}
		all[fmt.Sprint("grant ", *g.Consumer.UID, g.Capabilities, g.WorkspaceID)] = g
	}
	all["default"] = grants.Default
	return all
}

// A copy is the configuration as it is: every way to authenticate, with what is
// allowed beside it, for whom and until when.
func TestACopyIsTheConfigurationAsItIs(t *testing.T) {
	_, from := operatorOf(t)
	_, to := operatorOf(t)
	ctx := t.Context()
	do := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v %s", what, err, api.AsError(err).Hint)
		}
	}
	make := func(name, value, scope string, only ...string) api.Secret {
		t.Helper()
		s, err := from.CreateSecret(ctx, api.SecretCreate{Name: name, Value: secret.FromString(value), Scope: scope, Only: only})
		do(name, err)
		return s
	}
	up, err := standin.StartHostile()
	do("upstream", err)
	defer up.Close()
	const own = "an-original-value-01234"
	make("OPENAI_API_KEY", own, "global", "openai/chat-completions", "openai/models")
	second := make("OPENAI_API_KEY", own, "workspace:w")
	make("GITHUB_TOKEN", own, "global")
	make("TRELLO_API_KEY", strings.Repeat("0f", 16), "global") // waits for another
	account := make("RENAMED_LATER", own, "global")
	_, err = from.CreateCredential(ctx, api.CredentialCreate{ID: "second-account", Provider: "anthropic", SecretRefs: map[string]string{"": account.ID}})
	do("second account", err)
	_, err = from.DeleteCredential(ctx, "github") // its secret stays
	do("delete", err)
	_, err = from.AttachSecret(ctx, second.ID, api.SecretAttach{WorkspaceID: "w", GroupID: "g"})
	do("attach", err)
	make("SHARED", own, "global")
	rsa, cert, key := attack.DecoyKeys(t)
	for id, c := range map[string]struct {
		spec   api.AuthSpec
		fields map[string]string
	}{
		"header": {api.AuthSpec{Type: "header", HeaderName: "X-Key", ValueTemplate: "k={{secret}}"}, map[string]string{"secret": own}},
		"query":  {api.AuthSpec{Type: "query", ParamName: "key"}, map[string]string{"secret": own}},
		"path":   {api.AuthSpec{Type: "path", PrefixTemplate: "/bot{{secret}}"}, map[string]string{"secret": own}},
		"basic":  {api.AuthSpec{Type: "basic"}, map[string]string{"secret": "user:" + own}},
		"multi-header": {api.AuthSpec{Type: "multi-header", Headers: []api.AuthField{{Name: "X-A", ValueTemplate: "{{a}}"}, {Name: "X-B", ValueTemplate: "{{b}}"}}},
			map[string]string{"a": own, "b": own}},
		"multi-query": {api.AuthSpec{Type: "multi-query", Params: []api.AuthField{{Name: "a", ValueTemplate: "{{a}}"}}}, map[string]string{"a": own}},
		"aws-sigv4":   {api.AuthSpec{Type: "aws-sigv4", SigV4: &api.SigV4Spec{Fields: []string{"access_key_id", "secret_access_key"}, Service: "execute-api", Region: "eu-west-1"}}, map[string]string{"access_key_id": "AKIAORIGINAL00000000", "secret_access_key": strings.Repeat("original", 5)}},
		"profile":     {api.AuthSpec{Type: "aws-sigv4", SigV4: &api.SigV4Spec{Fields: []string{"profile"}, Service: "execute-api", Region: "eu-west-1"}}, map[string]string{"profile": "[default]\naws_access_key_id = AKIAORIGINAL00000000\naws_secret_access_key = " + strings.Repeat("original", 5)}},
		"hmac":        {api.AuthSpec{Type: "hmac", HMAC: &api.HMACSpec{Algorithm: "sha256", KeyEncoding: "base64", Output: api.AuthPlace{In: "header", Name: "X-Sig"}}}, map[string]string{"secret": strings.Repeat("b2s0", 8)}},
		"hmac-hex":    {api.AuthSpec{Type: "hmac", HMAC: &api.HMACSpec{Algorithm: "sha256", KeyEncoding: "hex", Output: api.AuthPlace{In: "header", Name: "X-Sig"}}}, map[string]string{"secret": strings.Repeat("0f", 32)}},
		"mtls":        {api.AuthSpec{Type: "mtls", MTLS: &api.MTLSSpec{CertField: "cert", KeyField: "key"}}, map[string]string{"cert": cert, "key": key}},
		"mtls-one":    {api.AuthSpec{Type: "mtls", MTLS: &api.MTLSSpec{CertField: "both", KeyField: "both", Plus: &api.AuthSpec{Type: "header", ValueTemplate: "Bearer {{token}}"}}}, map[string]string{"both": cert + key, "token": own}},
		"oauth2":      {api.AuthSpec{Type: "oauth2", OAuth2: &api.OAuth2Spec{GrantType: "refresh_token", Fields: []string{"oauth"}, TokenEndpoint: "https://id.acme.test/token"}}, map[string]string{"oauth": `{"client_id":"a","client_secret":"b","refresh_token":"` + own + `"}`}},
		"client":      {api.AuthSpec{Type: "oauth2", OAuth2: &api.OAuth2Spec{GrantType: "client_credentials", Fields: []string{"client_id", "client_secret"}, TokenEndpoint: "https://id.acme.test/token"}}, map[string]string{"client_id": "a", "client_secret": own}},
		"account":     {api.AuthSpec{Type: "oauth2", OAuth2: &api.OAuth2Spec{GrantType: api.GrantJWTBearer, Fields: []string{"account"}, TokenEndpoint: "https://id.acme.test/token"}}, map[string]string{"account": `{"type":"service_account","client_email":"a@b.test","private_key":"` + strings.ReplaceAll(rsa, "\n", `\n`) + `"}`}},
		"exchange":    {api.AuthSpec{Type: "token-exchange", TokenExchange: &api.TokenExchangeSpec{TokenEndpoint: "https://id.acme.test/token", BodyFormat: "json", Body: map[string]string{"key": "{{key}}"}, TokenField: "token", Headers: []api.AuthField{{Name: "Authorization", ValueTemplate: "Bearer {{access_token}}"}}}}, map[string]string{"key": own}},
	} {
		r := api.CredentialCreate{ID: id, Provider: "own-" + id, SecretRefs: map[string]string{}, Auth: &c.spec, Hosts: []string{"api.acme.test:8443"}, AllowPorts: []int{8443}}
		for field, value := range c.fields {
			r.SecretRefs[field] = make(strings.ToUpper(strings.ReplaceAll(id+"_"+field, "-", "_")), value, "global").ID
		}
		if id == "header" {
			r.CAPEM, r.AllowPrivateNetwork = string(up.CAPEM()), true
		}
		if id == "multi-header" {
			r.PublicParts = []string{"a"}
		}
		if id == "client" {
			r.Token = &api.TokenOptions{Scopes: []string{"read"}}
		}
		_, err := from.CreateCredential(ctx, r)
		do(id, err)
		_, err = from.CreateCapability(ctx, api.CapabilityCreate{ID: "own-" + id + "/call", Credential: id, Methods: []string{"GET", "POST"}, Paths: []string{"/v1/*/x", "=/v2"}, IssuesToken: []string{"/token"}})
		do("capability of "+id, err)
	}
	rate, size, hour := 7, int64(4096), time.Hour.Milliseconds()
	_, err = from.SetPolicy(ctx, api.PolicyChange{Capability: "own-header/call", RatePerMinute: &rate, RatePerCallerPerMinute: &rate, MaxRequestBodyBytes: &size, MaxResponseBodyBytes: &size,
		ResponseBlock: []string{"email"}, DenyQuery: []string{"q"}, RequireJSON: []api.RequireJSON{{Pointer: "/model", Values: []string{"small"}}}})
	do("policy", err)
	_, err = from.DisableCapabilities(ctx, api.SwitchRequest{Patterns: []string{"own-query/call", "openai/models"}})
	do("disable", err)
	_, err = from.Bind(ctx, api.BindingCreate{Capability: "openai/*", Credential: "openai-2", Scope: "workspace:w"})
	do("bind", err)
	for i, g := range []api.GrantAdd{
		{Capabilities: []string{"own-header/call"}, ExpiresInMs: &hour, RatePerMinute: &rate},
		{Capabilities: []string{"openai/*"}, WorkspaceID: "w", StrictScope: true},
		{},
		{Capabilities: []string{"openai/*"}},
	} {
		uid := uint32(70_000 + i)
		g.Consumer = api.ConsumerRef{UID: &uid}
		made, err := from.AddGrant(ctx, g)
		do("grant", err)
		if i == 3 { // of a consumer who may do nothing
			_, err = from.RemoveGrant(ctx, made.ID)
			do("remove", err)
		}
	}
	_, err = from.SetGrantDefault(ctx, api.GrantDefault{Default: api.GrantDeny})
	do("default", err)

	copied, err := attack.Copy(ctx, from, to)
	do("copy", err)
	if len(copied.Left) != 0 {
		t.Errorf("not in the copy: %q", copied.Left)
	}
	if d := cmp.Diff(listed(t, from), listed(t, to)); d != "" {
		t.Errorf("the copy is another configuration:\n%s", d)
	}
}

// There is a decoy for every secret that the registry knows.
func TestThereIsADecoyForEverySecretOfTheRegistry(t *testing.T) {
	if without := attack.Undecoyed(t); len(without) > 0 {
		t.Errorf("there is none for %q", without)
	}
}

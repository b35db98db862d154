package vault

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/durable"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/strictjson"
)

var updateVectors = flag.Bool("update", false, "write vectors/vault-v3.json anew")

// The files of older versions are what earlier versions of this code made.
// They stay as they are and go on opening.
const (
	vectorFile   = "../../vectors/vault-v3.json"
	vectorFileV2 = "../../vectors/vault-v2.json"
	vectorFileV1 = "../../vectors/vault-v1.json"
)

// vectors is a file of vectors. Files in it are by name below the vault's
// directory; kek.key lies in the installation's default place.
type vectors struct {
	Format   string          `json:"format"`
	Contexts []contextVector `json:"contexts"`
	Vaults   []example       `json:"vaults"`
	Refused  []refusal       `json:"refused"`
}

// contextVector is the encoding of a list of fields as associated data.
type contextVector struct {
	What   string   `json:"what"`
	Fields []string `json:"fieldsHex"`
	Bytes  string   `json:"bytesHex"`
}

type example struct {
	Name        string            `json:"name"`
	Passphrase  string            `json:"passphrase,omitzero"`
	EnvValue    string            `json:"envValue,omitzero"` // of the variable that the header names
	KEK         string            `json:"kekHex"`
	StateKey    string            `json:"stateKeyHex"`
	WrappingKey string            `json:"wrappingKeyHex"`
	State       string            `json:"state"` // the plaintext
	Values      map[string]string `json:"values"`
	// Tokens are the fields of each token, by its key.
	Tokens map[string]map[string]string `json:"tokens,omitzero"`
	Files  map[string][]byte            `json:"filesBase64"`
}

type refusal struct {
	Name       string            `json:"name"`
	Why        string            `json:"why"`
	Passphrase string            `json:"passphrase,omitzero"`
	Value      string            `json:"value,omitzero"` // the vault opens, this secret's value does not
	Token      string            `json:"token,omitzero"` // the vault opens, this token does not
	Files      map[string][]byte `json:"filesBase64"`
}

func vectorConfig(t testing.TB, seed byte) Config {
	now := time.UnixMilli(1_760_000_000_000)
	return Config{
		Dir: filepath.Join(t.TempDir(), "vault"), DefaultKeyFile: filepath.Join(t.TempDir(), "keys", "kek.key"), Argon2id: cheap,
		Rand:  rand.NewChaCha8([32]byte{seed}),
		Clock: func() time.Time { return now }, // whoever asks, and how often: a checkpoint may come at any moment
	}
}

var vectorCaller = &audit.Caller{UID: 1000, GID: 1000, User: "alice", Operator: true}

func vectorState(t testing.TB, v *Vault) {
	for _, s := range []struct {
		s     Secret
		value string
	}{
		{Secret{ID: "openai-key", Name: "OPENAI_API_KEY", Scope: "global", Pin: "openai", Field: "secret", Version: 1}, "sk-example"},
		{Secret{ID: "shop-key", Name: "SHOP", Aliases: []string{"STORE"}, Scope: "workspace:acme", Groups: []string{"group:acme:web", "group:acme:ops"},
			Pin: "shopify", PinTenant: "shop=acme", Version: 7}, "shp \u00e9\u4e16\u0000 end"},
	} {
		_, err := v.Update(t.Context(), audit.Record{Event: audit.SecretCreated, Caller: vectorCaller, Object: s.s.ID}, func(tx *Tx) error {
			s.s.CreatedAtMs = tx.Now()
			if err := tx.Seal(&s.s, secret.FromString(s.value)); err != nil {
				return err
			}
			tx.State.Secrets = append(tx.State.Secrets, s.s)
			tx.State.Credentials = append(tx.State.Credentials, Credential{ID: s.s.ID, Provider: s.s.Pin, Scope: s.s.Scope,
				Auto: true, Secrets: map[string]string{"secret": s.s.ID}, CreatedAtMs: tx.Now()})
			return nil
		})
		must(t, err)
	}
	_, err := v.Update(t.Context(), audit.Record{Event: audit.GrantAdded, Caller: vectorCaller}, func(tx *Tx) error {
		vectorRules(tx.State, tx.Now())
		return nil
	})
	must(t, err)
	_, err = v.Update(t.Context(), audit.Record{Event: audit.TokenRefreshed, Caller: vectorCaller}, func(tx *Tx) error {
		one := Token{Key: tokenKey(1), Sources: map[string]uint64{"shop-key": 7, "openai-key": 1}, Version: 3, ObtainedAtMs: tx.Now(), ExpiresAtMs: tx.Now() + 3_600_000,
			FirstAtMs: tx.Now() - 86_400_000, Rotates: true, Reusable: true, Scopes: []string{"read", "write"}, Account: "alice@example.com"}
		if err := tx.SealToken(&one, valuesOf(vectorTokens[one.Key])); err != nil {
			return err
		}
		two := Token{Key: tokenKey(2), Sources: map[string]uint64{"openai-key": 1}, Version: 1, ObtainedAtMs: tx.Now(), FirstAtMs: tx.Now()}
		return tx.SealToken(&two, valuesOf(vectorTokens[two.Key]))
	})
	must(t, err)
}

// vectorTokens is what the tokens of the example are made of.
var vectorTokens = map[string]map[string]string{
	tokenKey(1): {"access_token": "at-example", "refresh_token": "rt-example"},
	tokenKey(2): {"access_token": "at \u00e9\u4e16\"\\ end"},
}

// tokenKey is some key of a token.
func tokenKey(n byte) string { return fileHash([]byte{n}) }

// valuesOf makes fields for a token.
func valuesOf(fields map[string]string) map[string]secret.Value {
	out := map[string]secret.Value{}
	for name, v := range fields {
		out[name] = secret.FromString(v)
	}
	return out
}

// vectorAuth fills every member of an auth that version 3 brought.
func vectorAuth() *api.AuthSpec {
	field := []api.AuthField{{Name: "X-Key", ValueTemplate: "{{key}}"}}
	return &api.AuthSpec{Type: "mtls",
		SigV4: &api.SigV4Spec{Fields: []string{"access_key_id", "secret_access_key", "session_token?"}, Service: "s3", Region: "{region}"},
		HMAC: &api.HMACSpec{Algorithm: "sha512", Encoding: "base64", KeyField: "key", KeyEncoding: "hex", Sign: "{timestamp}{body}",
			Output: api.AuthPlace{In: "query", Name: "signature", Last: true}, Headers: field,
			Timestamp: &api.AuthPlace{In: "header", Name: "X-Time", Template: "t={{timestamp}}", Unit: "ms"}, Nonce: &api.AuthPlace{In: "body", Name: "nonce"}},
		MTLS: &api.MTLSSpec{CertField: "cert", KeyField: "key", Plus: &api.AuthSpec{Type: "header"}},
		OAuth2: &api.OAuth2Spec{Fields: []string{"oauth"}, Yields: []string{"access_token"}, GrantType: "refresh_token", TokenEndpoint: "https://id.example.com/token",
			CodeEndpoint: "https://id.example.com/code", AuthorizationEndpoint: "https://id.example.com/authorize", DeviceEndpoint: "https://id.example.com/device",
			RevocationEndpoint: "https://id.example.com/revoke", AuthorizationParams: map[string]string{"prompt": "consent"}, Scopes: []string{"read"}, ScopeSeparator: ",",
			ClientAuth: "basic", BodyFormat: "json", TokenParams: map[string]string{"audience": "https://api.example.com"}, Assertion: "claims", Headers: field},
		TokenExchange: &api.TokenExchangeSpec{TokenEndpoint: "https://id.example.com/login", BodyFormat: "json", Body: map[string]string{"secret": "{{key}}"}, TokenField: "token", Headers: field},
	}
}

// vectorRules fills every member of a state that versions 2 and 3 brought.
func vectorRules(st *State, now int64) {
	st.Credentials[0].Only = []string{"openai/models", "*-read"}
	st.Credentials[1].HostParams = map[string]string{"shop": "acme"}
	st.Credentials = append(st.Credentials, Credential{ID: "wiki", Provider: "wiki", Scope: "group:acme:web",
		Secrets: map[string]string{"user": "openai-key", "secret": "shop-key"}, Hosts: []string{"wiki.internal:8080"},
		Auth:                &api.AuthSpec{Type: "multi-header", Headers: []api.AuthField{{Name: "X-User", ValueTemplate: "{{user}}"}, {Name: "X-Key", ValueTemplate: "{{secret}}"}}},
		AllowPrivateNetwork: true, AllowPorts: []int{8080}, AllowHTTP: true, PublicParts: []string{"user"}, CreatedAtMs: now},
		Credential{ID: "cloud", Provider: "cloud", Scope: "global", Secrets: map[string]string{"key": "openai-key"}, Auth: vectorAuth(), Hosts: []string{"cloud.example.com"},
			Token: &api.TokenOptions{Scopes: []string{"read"}, Subject: "alice@example.com", RoleARN: "arn:aws:iam::123456789012:role/r", ExternalID: "x", SessionName: "s",
				Repositories: []string{"one"}, Permissions: map[string]string{"contents": "read"}}, CreatedAtMs: now})
	st.Capabilities = append(st.Capabilities, Capability{ID: "wiki/pages", Provider: "wiki", Credential: "wiki",
		Hosts: []string{"wiki.internal:8080"}, Methods: []string{"GET"}, Paths: []string{"/pages"}, IssuesToken: []string{"/token"}, CreatedAtMs: now})
	st.Switches = []api.Switch{{Pattern: "openai/*", On: false}, {Pattern: "openai/models", On: true}}
	st.Policies = []api.Policy{{Capability: "openai/models", RatePerMinute: 5, RatePerCallerPerMinute: 2, MaxRequestBodyBytes: 1 << 20, MaxResponseBodyBytes: 1 << 30,
		ResponseBlock: []string{"email", "\u00e9"}, AllowQuery: []string{"limit"}, DenyQuery: []string{"admin"},
		RequireJSON: []api.RequireJSON{{Pointer: "/model", Values: []string{"small", "large"}}}}}
	uid, gid := uint32(1001), uint32(0)
	st.Bindings = []api.Binding{
		{ID: "binding-1", Capability: "openai/*", Credential: "openai-key", Scope: "global", CreatedAtMs: now},
		{ID: "binding-2", Capability: "openai/*", Credential: "openai-key", Scope: "group:acme:web", Consumer: &api.Consumer{UID: &uid, User: "agent"}, CreatedAtMs: now},
	}
	st.Grants = []api.Grant{
		{ID: "grant-1", Consumer: api.Consumer{UID: &uid, User: "agent"}, Capabilities: []string{"openai/*", "*-read"}, WorkspaceID: "acme", GroupID: "web",
			StrictScope: true, RatePerMinute: 60, ExpiresAtMs: now + 28_800_000, CreatedAtMs: now},
		{ID: "grant-2", Consumer: api.Consumer{GID: &gid, Group: "wheel"}, Capabilities: []string{}, CreatedAtMs: now},
	}
	st.GrantDefault = api.GrantDeny
}

// filesOf is what a vector stores of a vault.
func filesOf(t testing.TB, cfg Config) map[string][]byte {
	out := map[string][]byte{"vault.aiv": read(t, filepath.Join(cfg.Dir, "vault.aiv")),
		"audit/00000001.jsonl": read(t, filepath.Join(cfg.Dir, "audit", "00000001.jsonl"))}
	if exists(cfg.DefaultKeyFile) {
		out["kek.key"] = read(t, cfg.DefaultKeyFile)
	}
	return out
}

func keysHex(k *keyring) (state, wrap string) {
	_ = k.use(func(s, w []byte) error { state, wrap = hex.EncodeToString(s), hex.EncodeToString(w); return nil })
	return state, wrap
}

func makeExample(t testing.TB, name string, seed byte, r keysource.Request) (example, *Vault) {
	cfg := vectorConfig(t, seed)
	v := open(t, cfg)
	must(t, v.Init(t.Context(), vectorCaller, r))
	vectorState(t, v)
	s := mustSnapshot(t, v)
	kek, err := keysource.Open(t.Context(), v.keyConfig(s.header.ID), s.header.Key, r.Material)
	must(t, err)
	e := example{Name: name, Passphrase: string(r.Material.Passphrase.Expose()), EnvValue: string(r.Material.EnvKey.Expose()),
		KEK: hex.EncodeToString(kek.Expose()), Values: map[string]string{}, Tokens: vectorTokens, Files: filesOf(t, cfg)}
	e.StateKey, e.WrappingKey = keysHex(s.keys)
	plain, err := strictjson.Marshal(s.state)
	must(t, err)
	e.State = string(plain)
	for _, sec := range s.state.Secrets {
		value, err := s.Open(sec.ID)
		must(t, err)
		e.Values[sec.ID] = string(value.Expose())
	}
	return e, v
}

func makeContexts() []contextVector {
	s := &Secret{ID: "shop-key", Scope: "group:acme:web", Pin: "shopify", PinTenant: "shop=acme", Version: 7}
	const id = "aaaaaaaaaaaaaaaaaaaaaaaaaa"
	token := &Token{Key: tokenKey(1), Sources: map[string]uint64{"shop-key": 7, "openai-key": 1}, Version: 3}
	hexes := func(fields ...[]byte) (out []string) {
		for _, f := range fields {
			out = append(out, hex.EncodeToString(f))
		}
		return out
	}
	b := func(s string) []byte { return []byte(s) }
	return []contextVector{
		{"root key", hexes(b(forRootKey), number(1), b(id), b("k")), hex.EncodeToString(rootKeyContext(id, "k"))},
		{"data key", hexes(b(forDataKey), b(id), b(s.ID)), hex.EncodeToString(dataKeyContext(id, s))},
		{"value", hexes(b(forValue), b(id), b(s.ID), b(s.Scope), b(s.Pin), b(s.PinTenant), number(7)), hex.EncodeToString(valueContext(id, s))},
		{"token's data key", hexes(b(forTokenKey), b(id), b(token.Key)), hex.EncodeToString(tokenDataKeyContext(id, token))},
		{"token", hexes(b(forToken), b(id), b(token.Key), b("openai-key"), number(1), b("shop-key"), number(7), number(3)), hex.EncodeToString(tokenContext(id, token))},
	}
}

// makeRefusals damages the examples, one thing at a time.
func makeRefusals(t testing.TB, file, phrase example, v *Vault) (out []refusal) {
	add := func(name, why string, of example, edit func(files map[string][]byte)) {
		files := maps.Clone(of.Files)
		edit(files)
		out = append(out, refusal{Name: name, Why: why, Passphrase: of.Passphrase, Files: files})
	}
	swap := func(name, a, b string) func(map[string][]byte) {
		return func(files map[string][]byte) {
			changed := bytes.Replace(files[name], []byte(a), []byte(b), 1)
			if bytes.Equal(changed, files[name]) {
				t.Fatalf("%q is not in %s", a, name)
			}
			files[name] = changed
		}
	}
	const doc, log, key = "vault.aiv", "audit/00000001.jsonl", "kek.key"
	add("empty file", "there is no header", file, func(f map[string][]byte) { f[doc] = nil })
	add("no newline", "the header does not end", file, func(f map[string][]byte) { f[doc] = f[doc][:100] })
	add("cut short", "the state's tag is missing", file, func(f map[string][]byte) { f[doc] = f[doc][:len(f[doc])-16] })
	add("one byte more", "the state does not authenticate", file, func(f map[string][]byte) { f[doc] = append(bytes.Clone(f[doc]), 0) })
	add("flipped bit in the state", "the state does not authenticate", file, func(f map[string][]byte) {
		f[doc] = bytes.Clone(f[doc])
		f[doc][len(f[doc])-100] ^= 4
	})
	add("header says unused", "the header is authenticated with the state", file, swap(doc, `"used":true`, `"used":false`))
	add("another generation", "the header is authenticated with the state", file, swap(doc, `"generation":5`, `"generation":6`))
	add("white space in the header", "a header has one encoding", file, swap(doc, `,"used"`, `, "used"`))
	add("no version", "the version is unknown", file, swap(doc, `{"aivaultVault":1,`, `{`))
	add("unknown member", "it is a newer format", file, swap(doc, `,"used"`, `,"more":1,"used"`))
	add("repeated member", "members are unique", file, swap(doc, `,"used":true`, `,"used":true,"used":true`))
	add("newer format", "the version is unknown", file, swap(doc, `"aivaultVault":1`, `"aivaultVault":2`))
	add("dev spelled out", "a header has one encoding", file, swap(doc, `,"key":`, `,"dev":false,"key":`))
	add("development vault", "the header is authenticated, and a release opens none", file, swap(doc, `,"key":`, `,"dev":true,"key":`))
	add("padded base64", "base64url has no padding", phrase, swap(doc, `"parallelism":1,"salt":"`, `"parallelism":1,"salt":"=`))
	add("absurd memory", "it is out of bounds, and refused before it is allocated", phrase, swap(doc, `"memoryKiB":8192`, `"memoryKiB":4294967295`))
	add("little memory", "it is out of bounds", phrase, swap(doc, `"memoryKiB":8192`, `"memoryKiB":8191`))
	add("absurd time", "it is out of bounds", phrase, swap(doc, `"time":1`, `"time":17`))
	add("no lanes", "it is out of bounds", phrase, swap(doc, `"parallelism":1`, `"parallelism":0`))
	wrong := phrase
	wrong.Passphrase = "wrong"
	add("wrong passphrase", "the root key does not open", wrong, func(map[string][]byte) {})
	add("no log", "the state's head is not in the log", file, func(f map[string][]byte) { delete(f, log) })
	add("log cut before the head", "the state's head is not in the log", file, func(f map[string][]byte) {
		f[log] = bytes.Join(bytes.SplitAfter(f[log], []byte("\n"))[:3], nil)
	})
	add("head's line changed", "the state's head is not in the log", file, func(f map[string][]byte) {
		i := bytes.LastIndex(f[log], []byte("token.refreshed"))
		f[log] = slices.Concat(f[log][:i], []byte("token.forgotten"), f[log][i+len("token.refreshed"):])
	})
	add("another vault's key", "the key file names another vault", file, swap(key, `"vault":"`+v.seen.header.ID, `"vault":"`+strings.Repeat("b", 26)))
	add("unknown member in the key file", "it is a newer format", file, swap(key, `,"keys"`, `,"more":1,"keys"`))
	add("another key", "the root key does not open", file, func(f map[string][]byte) {
		i := bytes.Index(f[key], []byte(`"key":"`)) + 7
		f[key] = slices.Concat(f[key][:i], []byte("AAAA"), f[key][i+4:])
	})

	// Old and odd documents that the right key seals.
	s := mustSnapshot(t, v)
	h := s.next()
	line, err := h.encode()
	must(t, err)
	odd := func(name, why, plain string) {
		var sealed []byte
		must(t, s.keys.use(func(state, _ []byte) error {
			sealed, err = seal(v.cfg.Rand, state, []byte(plain), line)
			return err
		}))
		add(name, why, file, func(f map[string][]byte) { f[doc] = slices.Concat(line, []byte("\n"), sealed) })
	}
	edit := func(name, why, old, text string) {
		if !strings.Contains(file.State, old) {
			t.Fatalf("%q is not in the state", old)
		}
		odd(name, why, strings.Replace(file.State, old, text, 1))
	}
	edit("unknown member in the state", "it is a newer format", `{"version":3,`, `{"version":3,"more":1,`)
	edit("newer state", "the version is unknown", `{"version":3,`, `{"version":4,`)
	edit("older state with newer members", "version 2 has no such members", `{"version":3,`, `{"version":2,`)
	edit("oldest state with newer members", "version 1 has no such members", `{"version":3,`, `{"version":1,`)
	edit("two secrets of one id", "ids are unique", `"id":"shop-key"`, `"id":"openai-key"`)
	edit("null list", "lists are never null", `"policies":[`, `"policies":null,"more":[`)
	edit("missing list", "every list is there", `"switches":[{"pattern":"openai/*","on":false},{"pattern":"openai/models","on":true}],`, ``)
	edit("no default for callers without a grant", "it is one of two", `"grantDefault":"deny",`, ``)
	edit("attached to a workspace", "only groups can be attached", `"group:acme:ops"`, `"workspace:acme"`)
	edit("attached across workspaces", "no workspace lends to another", `"group:acme:ops"`, `"group:other:ops"`)
	edit("attached twice", "a group is attached once", `"group:acme:ops"`, `"group:acme:web"`)
	edit("two bindings of one id", "ids are unique", `"bindingId":"binding-2"`, `"bindingId":"binding-1"`)
	edit("two grants of one id", "ids are unique", `"grantId":"grant-2"`, `"grantId":"grant-1"`)
	edit("a grant for nobody", "a consumer is one user or one group", `"gid":0,`, ``)
	edit("a grant for a user and a group", "a consumer is one user or one group", `"gid":0,`, `"uid":0,"gid":0,`)
	edit("a grant for a group of no workspace", "a group is in a workspace", `"workspaceId":"acme",`, ``)
	edit("a grant below no limit", "a negative number is none", `"rateLimitPerMinute":60`, `"rateLimitPerMinute":-60`)

	edit("two tokens of one key", "keys are unique", tokenKey(2), tokenKey(1))
	edit("a token's key that is no hash", "it names a file", tokenKey(2), "../"+tokenKey(2)[3:])
	edit("a token of no secret", "a token is had with secrets", `"sources":{"openai-key":1}`, `"sources":{}`)
	edit("a token without a version", "versions count from 1", `"sources":{"openai-key":1},"version":1`, `"sources":{"openai-key":1},"version":0`)

	log2, err := v.Audit(t.Context())
	must(t, err)
	swapped := s.state.clone()
	a, b := &swapped.Secrets[0], &swapped.Secrets[1]
	a.DEK, a.Value, b.DEK, b.Value = b.DEK, b.Value, a.DEK, a.Value
	_, err = v.commit(t.Context(), log2, change{s.gen, h, swapped, s.keys, audit.Record{Event: audit.SecretUpdated}})
	must(t, err)
	out = append(out, refusal{Name: "values swapped", Why: "a data key belongs to one secret", Value: "openai-key", Files: filesOf(t, v.cfg)})
	_, err = v.commit(t.Context(), log2, change{mustSnapshot(t, v).gen, mustSnapshot(t, v).next(), pinned(s.state), s.keys, audit.Record{Event: audit.SecretUpdated}})
	must(t, err)
	out = append(out, refusal{Name: "pinned elsewhere", Why: "a value belongs to its pin", Value: "openai-key", Files: filesOf(t, v.cfg)})
	_, err = v.commit(t.Context(), log2, change{mustSnapshot(t, v).gen, mustSnapshot(t, v).next(), rented(s.state), s.keys, audit.Record{Event: audit.SecretUpdated}})
	must(t, err)
	out = append(out, refusal{Name: "another tenant", Why: "a value belongs to its tenant", Value: "shop-key", Files: filesOf(t, v.cfg)})
	for _, c := range []struct {
		name, why string
		edit      func(t *Token)
	}{
		{"a token of another version", "a token belongs to its version", func(t *Token) { t.Version++ }},
		{"a token of another key", "a token belongs to its key", func(t *Token) { t.Key = tokenKey(9) }},
		{"a token of fewer secrets", "a token belongs to its sources", func(t *Token) { delete(t.Sources, "shop-key") }},
	} {
		changed := s.state.clone()
		c.edit(&changed.Tokens[0])
		_, err = v.commit(t.Context(), log2, change{mustSnapshot(t, v).gen, mustSnapshot(t, v).next(), changed, s.keys, audit.Record{Event: audit.SecretUpdated}})
		must(t, err)
		out = append(out, refusal{Name: c.name, Why: c.why, Token: changed.Tokens[0].Key, Files: filesOf(t, v.cfg)})
	}
	old := maps.Clone(filesOf(t, v.cfg))
	old[doc] = file.Files[doc]
	out = append(out, refusal{Name: "old copy", Why: "the log knows of later documents", Files: old})
	return out
}

func pinned(st *State) *State {
	out := st.clone()
	out.Secrets[0].Pin = "github"
	return out
}

func rented(st *State) *State {
	out := st.clone()
	out.Secrets[1].PinTenant = "shop=evil"
	return out
}

func makeVectors(t testing.TB) []byte {
	file, v := makeExample(t, "key file", 1, keysource.Request{Provider: keysource.File,
		Key: secret.FromString("202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f")})
	phrase, _ := makeExample(t, "passphrase", 2, passRequest("correct horse battery staple"))
	env, _ := makeExample(t, "environment variable", 3, envRequest(envKey))
	all := vectors{Format: "aivault vault, version 1, with a state of version 3: docs/vault-format.md", Contexts: makeContexts(), Vaults: []example{file, phrase, env}}
	all.Refused = makeRefusals(t, file, phrase, v)
	out, err := json.MarshalIndent(all, "", "  ")
	must(t, err)
	return append(out, '\n')
}

// The stored vectors are what this code makes of the same randomness: a
// change of the format, even an unwanted one, shows here.
func TestVectorsAreCurrent(t *testing.T) {
	made := makeVectors(t)
	if *updateVectors {
		must(t, os.WriteFile(vectorFile, made, 0o644))
	}
	if stored := read(t, vectorFile); !bytes.Equal(stored, made) {
		t.Error("vectors/vault-v3.json is not what this code makes: a new format needs a new version")
	}
}

// plaintext is the sealed state as it is in the file.
func plaintext(t testing.TB, doc []byte, k *keyring) (plain string) {
	t.Helper()
	_, line, sealed, err := splitDocument(doc)
	must(t, err)
	must(t, k.use(func(state, _ []byte) error {
		b, err := unseal(state, sealed, line)
		plain = string(b)
		return err
	}))
	return plain
}

// lay writes a vector's files as a vault.
func lay(t testing.TB, files map[string][]byte) Config {
	cfg := testConfig(t)
	for name, content := range files {
		path := filepath.Join(cfg.Dir, name)
		if name == "kek.key" {
			path = cfg.DefaultKeyFile
		}
		must(t, durable.MkdirAll(filepath.Dir(path)))
		must(t, durable.WriteFile(path, content))
	}
	return cfg
}

// No code makes older versions any more, so their files must never change.
func TestVectorsOfOlderVersionsAreFrozen(t *testing.T) {
	for file, want := range map[string]string{
		vectorFileV1: "9018b7b3db5c3b61f4c33a9a3a9e6b7635a87670fd5a9b8516c84222b6145592",
		vectorFileV2: "002866a6cb5e5f557d86c22bc1bc8b6e7e1b210287187f5b24d9191e1ba89e1d",
	} {
		if got := fileHash(read(t, file)); got != want {
			t.Errorf("%s was changed: its hash is %s", file, got)
		}
	}
}

func TestVectors(t *testing.T) {
	for name, file := range map[string]string{"v1": vectorFileV1, "v2": vectorFileV2, "v3": vectorFile} {
		t.Run(name, func(t *testing.T) { testVectors(t, file) })
	}
}

func testVectors(t *testing.T, file string) {
	var all vectors
	must(t, strictjson.Unmarshal(read(t, file), &all))
	for _, c := range all.Contexts {
		var fields [][]byte
		for _, f := range c.Fields {
			b, err := hex.DecodeString(f)
			must(t, err)
			fields = append(fields, b)
		}
		if got := hex.EncodeToString(aad(fields...)); got != c.Bytes {
			t.Errorf("context of a %s = %s, want %s", c.What, got, c.Bytes)
		}
	}
	for _, e := range all.Vaults {
		t.Run(e.Name, func(t *testing.T) {
			x := open(t, lay(t, e.Files))
			if e.Passphrase != "" || e.EnvValue != "" {
				_, err := x.Unlock(t.Context(), who, keysource.Material{Passphrase: secret.FromString(e.Passphrase), EnvKey: secret.FromString(e.EnvValue)}, 0)
				must(t, err)
			}
			s := mustSnapshot(t, x)
			if plain := plaintext(t, e.Files["vault.aiv"], s.keys); plain != e.State {
				t.Errorf("state = %s", plain)
			}
			// What was read is what was sealed, or its migration.
			want, err := decodeState([]byte(e.State))
			must(t, err)
			if d := cmp.Diff(want, s.state); d != "" {
				t.Error(d)
			}
			if again, err := strictjson.Marshal(s.state); err != nil || file == vectorFile && string(again) != e.State {
				t.Errorf("state = %s, %v", again, err)
			}
			if state, wrap := keysHex(s.keys); state != e.StateKey || wrap != e.WrappingKey {
				t.Errorf("keys = %s, %s", state, wrap)
			}
			for id, want := range e.Values {
				wantValue(t, x, id, want)
			}
			for key, want := range e.Tokens {
				wantToken(t, s, key, want)
			}
		})
	}
	for _, r := range all.Refused {
		t.Run("refused: "+r.Name, func(t *testing.T) {
			cfg := lay(t, r.Files)
			x := open(t, cfg)
			var err error
			if r.Passphrase != "" {
				_, err = x.Unlock(t.Context(), who, pass(r.Passphrase), 0)
			} else if s, e := x.Snapshot(t.Context()); r.Value+r.Token == "" {
				err = e
			} else if must(t, e); r.Token != "" {
				_, err = s.OpenToken(r.Token)
			} else {
				_, err = s.Open(r.Value)
			}
			if code := api.CodeOf(err); code != api.VaultUnavailable && code != api.VaultLocked {
				t.Errorf("%s: error = %v", r.Why, err)
			}
		})
	}
}

package keysource

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

const vaultA, vaultB = "aaaaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbbbb"

var cheap = Argon2Params{MemoryKiB: 8 << 10, Time: 1, Parallelism: 1}

func config(t testing.TB, vault string) Config {
	return Config{VaultID: vault, DefaultKeyFile: filepath.Join(t.TempDir(), "keys", "kek.key"), DefaultArgon2id: cheap}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t testing.TB, err error, code api.Code, parts ...string) {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("error = %v (%T), want code %s", err, err, code)
	}
	for _, p := range parts {
		if !strings.Contains(e.Message+"\n"+e.Hint, p) {
			t.Errorf("error %q, hint %q: want %q in it", e.Message, e.Hint, p)
		}
	}
}

func prepare(t testing.TB, cfg Config, r Request) *NewKey {
	t.Helper()
	k, err := Prepare(t.Context(), cfg, r)
	must(t, err)
	if err := k.Params.Check(); err != nil {
		t.Errorf("params %+v: %v", k.Params, err)
	}
	if k.KEK.Len() != KeySize {
		t.Errorf("the key has %d bytes", k.KEK.Len())
	}
	return k
}

func wantOpen(t testing.TB, cfg Config, p Params, m Material, want secret.Value) {
	t.Helper()
	got, err := Open(t.Context(), cfg, p, m)
	must(t, err)
	if !got.Equal(want) {
		t.Error("another key was opened")
	}
}

func TestFileHoldsTheKeyInUseAndTheNext(t *testing.T) {
	cfg := config(t, vaultA)
	first := prepare(t, cfg, Request{Provider: File})
	if info, err := os.Stat(cfg.DefaultKeyFile); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Dir(cfg.DefaultKeyFile)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory mode %v, %v", info.Mode(), err)
	}
	wantOpen(t, cfg, first.Params, Material{}, first.KEK)
	if Leftover(cfg, first.Params) {
		t.Error("one key is no left-over")
	}
	second := prepare(t, cfg, Request{Provider: File})
	wantOpen(t, cfg, first.Params, Material{}, first.KEK)
	wantOpen(t, cfg, second.Params, Material{}, second.KEK)
	if !Leftover(cfg, first.Params) {
		t.Error("the left-over is not seen")
	}
	_, err := Prepare(t.Context(), cfg, Request{Provider: File})
	wantCode(t, err, api.AlreadyExists, cfg.DefaultKeyFile)

	// A file that does not hold the named key is left alone.
	lost := first.Params
	lost.KeyID = "elsewhere"
	wantCode(t, Settle(t.Context(), cfg, lost), api.VaultUnavailable, cfg.DefaultKeyFile)
	wantOpen(t, cfg, first.Params, Material{}, first.KEK)

	must(t, Settle(t.Context(), cfg, second.Params))
	must(t, Settle(t.Context(), cfg, second.Params))
	wantOpen(t, cfg, second.Params, Material{}, second.KEK)
	_, err = Open(t.Context(), cfg, first.Params, Material{})
	wantCode(t, err, api.VaultUnavailable, cfg.DefaultKeyFile)
}

func TestForget(t *testing.T) {
	cfg := config(t, vaultA)
	place := filepath.Join(filepath.Dir(cfg.DefaultKeyFile), "other.key")
	k := prepare(t, cfg, Request{Provider: File})
	other := prepare(t, cfg, Request{Provider: File, Path: place})
	// The file in use is not forgotten, by whatever name it goes.
	must(t, Forget(t.Context(), cfg, k.Params, k.Params))
	spelled := k.Params
	spelled.Path = cfg.DefaultKeyFile
	must(t, Forget(t.Context(), cfg, spelled, k.Params))
	link := filepath.Join(t.TempDir(), "keys")
	must(t, os.Symlink(filepath.Dir(cfg.DefaultKeyFile), link))
	must(t, Forget(t.Context(), cfg, Params{Provider: File, Path: filepath.Join(link, "kek.key")}, k.Params))
	wantOpen(t, cfg, k.Params, Material{}, k.KEK)
	// Another vault's neither.
	strange := cfg
	strange.VaultID = vaultB
	must(t, Forget(t.Context(), strange, k.Params, Params{Provider: Env}))
	wantOpen(t, cfg, k.Params, Material{}, k.KEK)

	must(t, Forget(t.Context(), cfg, k.Params, other.Params))
	if _, err := os.Lstat(cfg.DefaultKeyFile); !os.IsNotExist(err) {
		t.Errorf("stat: %v", err)
	}
	must(t, Forget(t.Context(), cfg, k.Params, other.Params))
	wantOpen(t, cfg, other.Params, Material{}, other.KEK)
	must(t, Forget(t.Context(), cfg, Params{Provider: Env}, other.Params))
}

func TestAKeyFileIsNeverOverwritten(t *testing.T) {
	mine := config(t, vaultA)
	k := prepare(t, mine, Request{Provider: File})
	good, err := os.ReadFile(mine.DefaultKeyFile)
	must(t, err)
	yours := mine
	yours.VaultID = vaultB
	for name, c := range map[string]struct {
		content string
		mode    os.FileMode
		cfg     Config
		code    api.Code
		parts   []string
	}{
		"another vault's":  {string(good), 0o600, yours, api.AlreadyExists, []string{vaultA, "--file-path", "move it away"}},
		"garbage":          {"garbage", 0o600, mine, api.VaultUnavailable, []string{"--file-path"}},
		"empty":            {"", 0o600, mine, api.VaultUnavailable, []string{"--file-path"}},
		"newer":            {strings.Replace(string(good), `"aivaultKeys":1`, `"aivaultKeys":2`, 1), 0o600, mine, api.VaultUnavailable, []string{"newer"}},
		"readable by all":  {string(good), 0o644, mine, api.VaultUnavailable, []string{"chmod 600"}},
		"writable by some": {string(good), 0o620, mine, api.VaultUnavailable, []string{"chmod 600"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := mine.DefaultKeyFile
			must(t, os.WriteFile(path, []byte(c.content), 0o600))
			must(t, os.Chmod(path, c.mode))
			for _, r := range []Request{{Provider: File}, {Provider: File, Path: path}, {Provider: File, Key: secret.FromString(strings.Repeat("00", 32))}} {
				_, err := Prepare(t.Context(), c.cfg, r)
				wantCode(t, err, c.code, append(c.parts, path)...)
			}
			_, err := Open(t.Context(), c.cfg, k.Params, Material{})
			wantCode(t, err, api.VaultUnavailable, path)
			if api.AsError(err).Hint == "" {
				t.Errorf("%v: no hint", err)
			}
			wantCode(t, Settle(t.Context(), c.cfg, k.Params), api.VaultUnavailable)
			_ = Forget(t.Context(), c.cfg, k.Params, Params{Provider: Env})
			if now, err := os.ReadFile(path); err != nil || string(now) != c.content {
				t.Errorf("the file was changed: %v", err)
			}
		})
	}
	must(t, os.Chmod(mine.DefaultKeyFile, 0o600))
	must(t, os.WriteFile(mine.DefaultKeyFile, good, 0o600))
	wantOpen(t, mine, k.Params, Material{}, k.KEK)
}

// Where the operator points at something that is no key file, no hint has a
// command that changes it.
func TestAKeyFileIsNotMadeOfWhatIsThere(t *testing.T) {
	cfg := config(t, vaultA)
	path := filepath.Join(t.TempDir(), "shared")
	wantRefusal := func() {
		t.Helper()
		_, err := Prepare(t.Context(), cfg, Request{Provider: File, Path: path})
		wantCode(t, err, api.VaultUnavailable, path+" is not private", "name another place with --file-path")
		if hint := api.AsError(err).Hint; strings.Contains(hint, path) {
			t.Errorf("hint %q", hint)
		}
	}
	must(t, os.Mkdir(path, 0o700))
	wantRefusal()
	must(t, os.Chmod(path, 0o755))
	wantRefusal()
	must(t, os.Remove(path))
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, os.Chmod(path, 0o644))
	wantRefusal()
}

func TestMissingKeyFile(t *testing.T) {
	cfg := config(t, vaultA)
	_, err := Open(t.Context(), cfg, Params{Provider: File, KeyID: "k"}, Material{})
	wantCode(t, err, api.VaultUnavailable, cfg.DefaultKeyFile, "missing")
}

func TestGivenKey(t *testing.T) {
	cfg := config(t, vaultA)
	key := strings.Repeat("a1", KeySize)
	k := prepare(t, cfg, Request{Provider: File, Key: secret.FromString(key)})
	if hex.EncodeToString(k.KEK.Expose()) != key {
		t.Error("another key was stored")
	}
	_, err := Prepare(t.Context(), cfg, Request{Provider: File, Key: secret.FromString(key)})
	wantCode(t, err, api.InvalidRequest)
}

func TestTemporaryKeyFilesAreRemoved(t *testing.T) {
	cfg := config(t, vaultA)
	k := prepare(t, cfg, Request{Provider: File})
	temp := filepath.Join(filepath.Dir(cfg.DefaultKeyFile), ".kek.key.tmp-ABCDEF")
	must(t, os.WriteFile(temp, []byte("a key"), 0o600))
	must(t, Settle(t.Context(), cfg, k.Params))
	if _, err := os.Lstat(temp); !os.IsNotExist(err) {
		t.Error("a key is left in a temporary file")
	}
}

func TestEnv(t *testing.T) {
	cfg := config(t, vaultA)
	key := strings.Repeat("a1", KeySize)
	m := func(s string) Material { return Material{EnvKey: secret.FromString(s)} }
	k := prepare(t, cfg, Request{Provider: Env, EnvVar: "MINE", Material: m(key)})
	if k.Params.KeyID != "016617b1be01809e" || k.Params.EnvVar != "MINE" {
		t.Errorf("params = %+v", k.Params)
	}
	if p := prepare(t, cfg, Request{Provider: Env, EnvVar: DefaultEnvVar, Material: m(key)}).Params; p.EnvVar != "" || p.EnvName() != "AIVAULT_KEY" {
		t.Errorf("params = %+v", p)
	}
	raw, err := hex.DecodeString(key)
	must(t, err)
	for _, spelled := range []string{key, strings.ToUpper(key), base64.StdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw) + "\n"} {
		wantOpen(t, cfg, k.Params, m(spelled), k.KEK)
	}
	for _, wrong := range []string{"", "x", strings.Repeat("a2", KeySize), key + "00"} {
		_, err := Open(t.Context(), cfg, k.Params, m(wrong))
		wantCode(t, err, api.VaultLocked, "MINE", "export MINE=")
		if wrong != "" && strings.Contains(err.Error(), wrong) && len(wrong) > 1 {
			t.Errorf("%v repeats the key", err)
		}
	}
}

func TestPassphrase(t *testing.T) {
	cfg := config(t, vaultA)
	m := Material{Passphrase: secret.FromString("correct horse")}
	a := prepare(t, cfg, Request{Provider: Passphrase, Material: m})
	b := prepare(t, cfg, Request{Provider: Passphrase, Material: m})
	if a.KEK.Equal(b.KEK) || a.Params.KeyID == b.Params.KeyID || a.Params.Argon2id.Salt == b.Params.Argon2id.Salt {
		t.Error("two keys of one passphrase are alike")
	}
	wantOpen(t, cfg, a.Params, m, a.KEK)
	wrong, err := Open(t.Context(), cfg, a.Params, Material{Passphrase: secret.FromString("correct horsf")})
	if err != nil || wrong.Equal(a.KEK) {
		t.Errorf("a wrong passphrase: %v", err)
	}
	_, err = Open(t.Context(), cfg, a.Params, Material{})
	wantCode(t, err, api.VaultLocked, "vault is locked", "aivault unlock")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, cfg, a.Params, m); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
	if d := DefaultArgon2id(); d != (Argon2Params{MemoryKiB: 65536, Time: 3, Parallelism: 4}) {
		t.Errorf("the default parameters are %+v", d)
	}
}

// A known answer: Argon2id, 8 MiB, t=1, p=1, as other implementations compute it.
func TestPassphraseVector(t *testing.T) {
	p := Params{Provider: Passphrase, KeyID: "k", Argon2id: &Argon2Params{MemoryKiB: 8192, Time: 1, Parallelism: 1,
		Salt: base64.RawURLEncoding.EncodeToString([]byte("0123456789abcdef"))}}
	got, err := Open(t.Context(), Config{}, p, Material{Passphrase: secret.FromString("password")})
	must(t, err)
	if s := hex.EncodeToString(got.Expose()); s != "fc96682477a0c5c8274a4a7217e2a32b5fd51511377b8ad5be879f728e725aa5" {
		t.Errorf("key = %s", s)
	}
}

func TestRequestsThatMakeNoSense(t *testing.T) {
	cfg := config(t, vaultA)
	p := Material{Passphrase: secret.FromString("p")}
	for name, r := range map[string]Request{
		"no provider":          {},
		"unknown provider":     {Provider: "cloud"},
		"empty passphrase":     {Provider: Passphrase},
		"no variable":          {Provider: Env},
		"bad variable":         {Provider: Env, EnvVar: "A=B", Material: Material{EnvKey: secret.FromString(strings.Repeat("00", 32))}},
		"digit first":          {Provider: Env, EnvVar: "1A", Material: Material{EnvKey: secret.FromString(strings.Repeat("00", 32))}},
		"bad key":              {Provider: Env, Material: Material{EnvKey: secret.FromString("zz")}},
		"relative path":        {Provider: File, Path: "kek.key"},
		"unclean path":         {Provider: File, Path: "/a/../kek.key"},
		"control character":    {Provider: File, Path: "/a\x1b[2J"},
		"path and passphrase":  {Provider: Passphrase, Path: "/x", Material: p},
		"key and passphrase":   {Provider: Passphrase, Key: secret.FromString("k"), Material: p},
		"variable and file":    {Provider: File, EnvVar: "A"},
		"passphrase and file":  {Provider: File, Material: p},
		"a short key for file": {Provider: File, Key: secret.FromString("0011")},
	} {
		if _, err := Prepare(t.Context(), cfg, r); api.CodeOf(err) != api.InvalidRequest {
			t.Errorf("%s: %v", name, err)
		} else if strings.ContainsRune(err.Error(), 0x1b) {
			t.Errorf("%s: %q has a control character", name, err)
		}
	}
	if _, err := os.Lstat(cfg.DefaultKeyFile); !os.IsNotExist(err) {
		t.Error("a refused request made a key file")
	}
}

func TestParamsOutOfBounds(t *testing.T) {
	argon := func(edit func(*Argon2Params)) Params {
		a := cheap
		a.Salt = base64.RawURLEncoding.EncodeToString(make([]byte, 16))
		edit(&a)
		return Params{Provider: Passphrase, KeyID: "k", Argon2id: &a}
	}
	good := argon(func(*Argon2Params) {})
	must(t, good.Check())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for name, p := range map[string]Params{
		"no id":         {Provider: File},
		"odd id":        {Provider: File, KeyID: "a b"},
		"long id":       {Provider: File, KeyID: strings.Repeat("a", 65)},
		"no provider":   {KeyID: "k"},
		"relative":      {Provider: File, KeyID: "k", Path: "a"},
		"file and env":  {Provider: File, KeyID: "k", EnvVar: "A"},
		"env and path":  {Provider: Env, KeyID: "k", Path: "/a"},
		"env name":      {Provider: Env, KeyID: "k", EnvVar: "A B"},
		"no argon":      {Provider: Passphrase, KeyID: "k"},
		"argon of file": {Provider: File, KeyID: "k", Argon2id: good.Argon2id},
		"no memory":     argon(func(a *Argon2Params) { a.MemoryKiB = 0 }),
		"little memory": argon(func(a *Argon2Params) { a.MemoryKiB = 8<<10 - 1 }),
		"much memory":   argon(func(a *Argon2Params) { a.MemoryKiB = 1<<20 + 1 }),
		"all memory":    argon(func(a *Argon2Params) { a.MemoryKiB = 1<<32 - 1 }),
		"no time":       argon(func(a *Argon2Params) { a.Time = 0 }),
		"much time":     argon(func(a *Argon2Params) { a.Time = 17 }),
		"no lanes":      argon(func(a *Argon2Params) { a.Parallelism = 0 }),
		"many lanes":    argon(func(a *Argon2Params) { a.Parallelism = 17 }),
		"no salt":       argon(func(a *Argon2Params) { a.Salt = "" }),
		"short salt":    argon(func(a *Argon2Params) { a.Salt = base64.RawURLEncoding.EncodeToString(make([]byte, 15)) }),
		"long salt":     argon(func(a *Argon2Params) { a.Salt = base64.RawURLEncoding.EncodeToString(make([]byte, 65)) }),
		"padded salt":   argon(func(a *Argon2Params) { a.Salt = base64.URLEncoding.EncodeToString(make([]byte, 16)) }),
	} {
		_, err := Open(t.Context(), Config{}, p, Material{Passphrase: secret.FromString("p")})
		if api.CodeOf(err) != api.VaultUnavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Errorf("%d bytes were allocated for refused parameters", grown)
	}
}

func FuzzKeyFile(f *testing.F) {
	key := base64.RawURLEncoding.EncodeToString(make([]byte, KeySize))
	f.Add([]byte(`{"aivaultKeys":1,"vault":"` + vaultA + `","keys":[{"id":"a","key":"` + key + `"}]}`))
	f.Add([]byte(`{"aivaultKeys":1,"vault":"` + vaultA + `","keys":[{"id":"a","key":"` + key + `"},{"id":"b","key":"` + key + `"}]}`))
	f.Add([]byte(`{"aivaultKeys":1,"vault":"","keys":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		kf, err := parseKeyFile(data)
		if err != nil {
			return
		}
		if len(kf.Keys) < 1 || len(kf.Keys) > 2 || len(kf.Keys) == 2 && kf.Keys[0].ID == kf.Keys[1].ID {
			t.Fatalf("accepted %+v", kf)
		}
		for _, k := range kf.Keys {
			v, err := k.value()
			if err != nil || v.Len() != KeySize || base64.RawURLEncoding.EncodeToString(v.Expose()) != k.Key {
				t.Fatalf("key %q: %v", k.ID, err)
			}
		}
	})
}

func FuzzParseKey(f *testing.F) {
	for _, s := range []string{strings.Repeat("a1", 32), base64.StdEncoding.EncodeToString(make([]byte, 32)), "", "AAAA", strings.Repeat("-", 43)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := ParseKey(secret.New(text))
		if err != nil {
			wantCode(t, err, api.InvalidRequest)
			return
		}
		again, err := ParseKey(secret.FromString(hex.EncodeToString(k.Expose())))
		if err != nil || !again.Equal(k) || k.Len() != KeySize {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

// Another user could put a key of theirs in the place of one below a directory
// that everyone can change.
func TestAKeyFileThatOthersCouldReplaceIsRefused(t *testing.T) {
	cfg := config(t, vaultA)
	above := filepath.Dir(filepath.Dir(cfg.DefaultKeyFile))
	must(t, os.Chmod(above, 0o777))
	_, err := Prepare(t.Context(), cfg, Request{Provider: File})
	wantCode(t, err, api.VaultUnavailable, cfg.DefaultKeyFile, above+" is not private", "o-w "+above)
	if _, err := os.Lstat(filepath.Dir(cfg.DefaultKeyFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was made: %v", err)
	}
	must(t, os.Chmod(above, 0o777|os.ModeSticky))
	k := prepare(t, cfg, Request{Provider: File})
	must(t, os.Chmod(above, 0o777))
	_, err = Open(t.Context(), cfg, k.Params, Material{})
	wantCode(t, err, api.VaultUnavailable, above, "o-w "+above)
	must(t, os.Chmod(above, 0o755))
	wantOpen(t, cfg, k.Params, Material{}, k.KEK)
}

package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

func TestParseEnvDefaults(t *testing.T) {
	e, err := ParseEnv([]string{"HOME=/home/me", "GODEBUG=http2debug=2"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, got, want string }{
		{"home", e.Home, "/home/me"},
		{"dir", e.Dir, "/home/me/.aivault/data/vault"},
		{"key file", e.KeyFile, "/home/me/.aivault/keys/kek.key"},
		{"logs", e.LogDir, "/home/me/.aivault/logs"},
		{"socket", e.Socket, "/home/me/.aivault/run/aivaultd.sock"},
		{"own socket", e.OwnSocket, "/home/me/.aivault/run/aivaultd.sock"},
		{"shared socket", e.SharedSocket, sharedSocket},
	} {
		if c.got != c.want {
			t.Errorf("%s is %q, want %q", c.what, c.got, c.want)
		}
	}
	if e.DirSet || e.SocketSet || !e.DiskLogs || !e.Autostart || e.Disable || e.SocketMode != 0o600 || e.SocketDirMode != 0o700 ||
		len(e.Keys) != 0 || len(e.DevNames) != 0 || e.WorkspaceID != "" || e.GroupID != "" {
		t.Errorf("defaults are %+v", e)
	}
}

func TestParseEnvDir(t *testing.T) {
	e, err := ParseEnv([]string{"HOME=/home/me", "AIVAULT_DIR=/srv/v", "AIVAULTD_SOCKET=/run/x.sock", "AIVAULT_KEY=k3y", "AIVAULT_DEV_DNS=", "AIVAULT_DEV_CA_CERT_PATH=x"})
	if err != nil {
		t.Fatal(err)
	}
	if e.Dir != "/srv/v" || !e.DirSet || e.KeyFile != "/srv/v/kek.key" || e.OwnSocket != "/srv/v/run/aivaultd.sock" {
		t.Errorf("AIVAULT_DIR gave %+v", e)
	}
	if e.Socket != "/run/x.sock" || !e.SocketSet {
		t.Errorf("AIVAULTD_SOCKET gave %q", e.Socket)
	}
	if !e.Keys["AIVAULT_KEY"].Equal(secret.FromString("k3y")) {
		t.Error("the key is missing")
	}
	if want := []string{"AIVAULT_DEV_CA_CERT_PATH", "AIVAULT_DEV_DNS"}; !slices.Equal(e.DevNames, want) {
		t.Errorf("development variables are %q", e.DevNames)
	}
}

func TestParseEnvMakesPathsAbsolute(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	real, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	e, err := ParseEnv([]string{"HOME=/h", "AIVAULT_DIR=v/../w", "AIVAULTD_SOCKET=s"})
	if err != nil || e.Dir != filepath.Join(real, "w") || e.Socket != filepath.Join(real, "s") {
		t.Errorf("%q %q %v", e.Dir, e.Socket, err)
	}
}

func TestParseEnvWithoutHome(t *testing.T) {
	e, err := ParseEnv(nil)
	if err != nil || !filepath.IsAbs(e.Home) {
		t.Errorf("home is %q: %v", e.Home, err)
	}
}

func TestParseEnvValues(t *testing.T) {
	for _, c := range []struct {
		set  string
		ok   bool
		want func(Env) bool
	}{
		{"AIVAULTD_SOCKET_MODE=0660", true, func(e Env) bool { return e.SocketMode == 0o660 }},
		{"AIVAULTD_SOCKET_MODE=600", true, func(e Env) bool { return e.SocketMode == 0o600 }},
		{"AIVAULTD_SOCKET_MODE=0666", false, nil},
		{"AIVAULTD_SOCKET_MODE=0602", false, nil},
		{"AIVAULTD_SOCKET_MODE=0400", false, nil},
		{"AIVAULTD_SOCKET_MODE=4600", false, nil},
		{"AIVAULTD_SOCKET_MODE=0o600", false, nil},
		{"AIVAULTD_SOCKET_MODE=-600", false, nil},
		{"AIVAULTD_SOCKET_MODE=60", false, nil},
		{"AIVAULTD_SOCKET_MODE=00600", false, nil},
		{"AIVAULTD_SOCKET_MODE=rw", false, nil},
		{"AIVAULTD_SOCKET_MODE=", false, nil},
		{"AIVAULTD_SOCKET_DIR_MODE=0750", true, func(e Env) bool { return e.SocketDirMode == 0o750 }},
		{"AIVAULTD_SOCKET_DIR_MODE=0755", false, nil},
		{"AIVAULTD_SOCKET_DIR_MODE=0600", false, nil},
		{"AIVAULTD_AUTOSTART=0", true, func(e Env) bool { return !e.Autostart }},
		{"AIVAULTD_AUTOSTART=1", true, func(e Env) bool { return e.Autostart }},
		{"AIVAULTD_AUTOSTART=no", false, nil},
		{"AIVAULTD_AUTOSTART=", false, nil},
		{"AIVAULTD_DISABLE=1", true, func(e Env) bool { return e.Disable }},
		{"AIVAULTD_DISABLE=true", true, func(e Env) bool { return e.Disable }},
		{"AIVAULTD_DISABLE=false", true, func(e Env) bool { return !e.Disable }},
		{"AIVAULTD_DISABLE=yes", false, nil},
		{"AIVAULT_DISABLE_DISK_LOGS=1", true, func(e Env) bool { return !e.DiskLogs }},
		{"AIVAULT_DISABLE_DISK_LOGS=2", false, nil},
		{"AIVAULT_DIR=", true, func(e Env) bool { return !e.DirSet && e.Dir != "" }},
		{"AIVAULTD_SOCKET=", true, func(e Env) bool { return !e.SocketSet && e.Socket == e.OwnSocket }},
		{"AIVAULT_KEY=", true, func(e Env) bool { return len(e.Keys) == 0 }},
		{"AIVAULT_WORKSPACE_ID=acme", true, func(e Env) bool { return e.WorkspaceID == "acme" }},
		{"AIVAULT_WORKSPACE_ID=a/b", false, nil},
		{"AIVAULT_WORKSPACE_ID=", true, func(e Env) bool { return e.WorkspaceID == "" }},
		{"AIVAULT_GROUP_ID=g", false, nil}, // without a workspace
		{"AIVAULT_DIR=a\x00b", false, nil},
		{"HOME=relative", false, nil},
		{"AIVAULT_KEY_FD=0", false, nil},
		{"AIVAULT_KEY_FD=x", false, nil},
	} {
		environ := []string{c.set}
		if !strings.HasPrefix(c.set, "HOME=") {
			environ = append(environ, "HOME=/home/me")
		}
		e, err := ParseEnv(environ)
		name, _, _ := strings.Cut(c.set, "=")
		switch {
		case (err == nil) != c.ok:
			t.Errorf("%q: %v", c.set, err)
		case err != nil && (api.CodeOf(err) != api.InvalidRequest || !strings.Contains(err.Error(), name)):
			t.Errorf("%q: the error does not name the variable: %v", c.set, err)
		case err != nil && api.AsError(err).Hint == "":
			t.Errorf("%q: the error has no hint: %v", c.set, err)
		case err == nil && !c.want(e):
			t.Errorf("%q gave %+v", c.set, e)
		}
	}
	e, err := ParseEnv([]string{"HOME=/h", "AIVAULT_WORKSPACE_ID=w", "AIVAULT_GROUP_ID=g"})
	if err != nil || e.GroupID != "g" {
		t.Errorf("workspace and group: %+v %v", e, err)
	}
}

func TestTheVaultsHeaderNamesTheKeysVariable(t *testing.T) {
	header := `{"aivaultVault":1,"id":"x","key":{"provider":"env","keyId":"k","envVar":"MY_KEY"}}` + "\nsealed"
	for _, c := range []struct{ name, file, want string }{
		{"env", header, "v"},
		{"another provider", strings.Replace(header, `"env"`, `"file"`, 1), ""},
		{"not JSON", "MY_KEY\n", ""},
		{"empty", "", ""},
		{"known name", strings.Replace(header, "MY_KEY", "HOME", 1), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "vault.aiv"), []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			e, err := ParseEnv([]string{"HOME=/h", "AIVAULT_DIR=" + dir, "MY_KEY=v"})
			if err != nil {
				t.Fatal(err)
			}
			if got := string(e.Keys["MY_KEY"].Expose()); got != c.want {
				t.Errorf("the key is %q", got)
			}
			if len(e.Keys) > 1 || !e.Keys["HOME"].IsZero() {
				t.Errorf("keys: %v", e.KeyNames())
			}
		})
	}
}

func TestForDaemon(t *testing.T) {
	e, err := ParseEnv([]string{"HOME=/h", "AIVAULT_DIR=/d", "AIVAULTD_SOCKET=/s", "AIVAULT_KEY=k3y-value", "AIVAULT_DISABLE_DISK_LOGS=1",
		"AIVAULTD_SOCKET_MODE=0660", "GODEBUG=x", "AIVAULTD_AUTOSTART=0", "AIVAULT_WORKSPACE_ID=w"})
	if err != nil {
		t.Fatal(err)
	}
	env := e.ForDaemon()
	if clean, keys, dirty := split(env, nil); dirty || len(keys) > 0 || len(clean) != len(env) {
		t.Errorf("a daemon started with %q would start again", env)
	}
	if all := strings.Join(env, "\n"); strings.Contains(all, "k3y") || strings.Contains(all, "GODEBUG") {
		t.Errorf("a daemon would get %q", env)
	}
	again, err := ParseEnv(env)
	if err != nil {
		t.Fatal(err)
	}
	if again.Dir != e.Dir || again.Socket != e.Socket || again.SocketMode != e.SocketMode || again.DiskLogs != e.DiskLogs || again.Home != e.Home {
		t.Errorf("the daemon would see %+v, not %+v", again, e)
	}
}

func TestVariablesAreDescribed(t *testing.T) {
	seen := map[string]bool{}
	for _, v := range append(Variables(), DevVariables()...) {
		if v.Name == "" || v.Meaning == "" || seen[v.Name] {
			t.Errorf("the row %+v is empty or there twice", v)
		}
		seen[v.Name] = true
	}
}

func FuzzParseEnv(f *testing.F) {
	f.Add("AIVAULTD_SOCKET_MODE=0660\nAIVAULT_DIR=/d")
	f.Add("AIVAULTD_DISABLE=1\nAIVAULT_WORKSPACE_ID=w\nAIVAULT_GROUP_ID=g")
	f.Fuzz(func(t *testing.T, all string) {
		if strings.Contains(all, varKeyFD) {
			return // it would read a descriptor of the fuzzer's
		}
		e, err := ParseEnv(append(strings.Split(all, "\n"), "HOME=/h"))
		if err != nil {
			if api.CodeOf(err) != api.InvalidRequest {
				t.Errorf("%q: %v", all, err)
			}
			return
		}
		if !filepath.IsAbs(e.Dir) || !filepath.IsAbs(e.Socket) || e.SocketMode&0o007 != 0 || e.SocketDirMode&0o007 != 0 {
			t.Errorf("%q gave %+v", all, e)
		}
	})
}

func FuzzHeaderKeyVariable(f *testing.F) {
	f.Add([]byte(`{"key":{"provider":"env","envVar":"K"}}`))
	f.Add([]byte(`{"key":[]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if name := headerKeyVariable(line); name != "" && !strings.Contains(string(line), "env") {
			t.Errorf("%q names %q", line, name)
		}
	})
}

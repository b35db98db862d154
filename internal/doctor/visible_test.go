package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/daemon"
	"moldable.sh/aivault/internal/vault"
)

func TestSightings(t *testing.T) {
	secret := func(name string) bool { return name == "KEY" || name == "TOKEN" }
	for line, want := range map[string]string{
		"KEY=abc":                          "KEY",
		"export KEY=abc":                   "KEY",
		"  export  KEY='a b'":              "KEY",
		`KEY="abc"`:                        "KEY",
		"declare -x KEY=abc":               "KEY",
		"export A=1 KEY=abc TOKEN=def":     "KEY TOKEN",
		"# export KEY=abc":                 "KEY", // as clear as any other line
		"KEY = abc":                        "KEY",
		"set -gx KEY abc":                  "KEY",
		"set --export --global KEY abc":    "KEY",
		"setenv KEY abc":                   "KEY",
		"KEY=abc curl https://example.com": "KEY",
		// No secret stands there.
		"":                                "",
		"KEY=":                            "",
		`KEY=""`:                          "",
		"KEY=$OTHER":                      "",
		`KEY="$(pass show key)"`:          "",
		"KEY=`pass show key`":             "",
		"KEY=op://vault/item":             "",
		"KEY=...":                         "",
		"KEY=<your key>":                  "",
		"MY_KEY=abc":                      "",
		"KEYS=abc":                        "",
		"key=abc":                         "",
		"echo $KEY=abc":                   "",
		"echo ${KEY=abc}":                 "",
		"unset KEY":                       "",
		"set KEY":                         "",
		"curl -H \"Authorization: $KEY\"": "",
	} {
		path := filepath.Join(t.TempDir(), ".bashrc")
		if err := os.WriteFile(path, []byte("# first\n"+line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range sightings(path, forms(), secret) {
			got = append(got, s.name)
			if s.line != 2 || s.path != path || s.dot {
				t.Errorf("%q: seen at %s:%d", line, s.path, s.line)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// Nothing is waited for, and no file is read beyond its first MiB.
func TestOnlyFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(dir, "long")
	if err := os.WriteFile(long, make([]byte, maxVisibleSize+10), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(long, link); err != nil {
		t.Fatal(err)
	}
	for path, n := range map[string]int{fifo: 0, "/dev/zero": 0, dir: 0, filepath.Join(dir, "none"): 0, long: maxVisibleSize, link: maxVisibleSize} {
		if got := len(read(path)); got != n {
			t.Errorf("%s: %d bytes were read, want %d", path, got, n)
		}
	}
}

func TestWhichFilesAreLookedInto(t *testing.T) {
	home, here := t.TempDir(), t.TempDir()
	for _, name := range []string{".bashrc", ".vimrc", ".config/environment.d/key.conf", ".config/fish/config.fish", ".env.sample"} {
		write(t, filepath.Join(home, name))
	}
	for _, name := range []string{".env", ".env.local", ".env.example", "prod.env", ".envrc", "env", "main.go"} {
		write(t, filepath.Join(here, name))
	}
	e := &exam{cfg: Config{Client: client.Config{Env: daemon.Env{Home: home}}, Dir: here}}
	got := strings.NewReplacer(home, "~", here, ".").Replace(fmt.Sprint(e.readable()))
	if want := "[~/.bashrc ~/.config/fish/config.fish ~/.config/environment.d/key.conf ./.env ./.env.local ./prod.env ./.envrc]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// The line may be the only place that has the value: no hint takes it away
// before it is known to be in the vault. Import reads no comment.
func TestNoHintLosesAValue(t *testing.T) {
	home, here := t.TempDir(), t.TempDir()
	for path, text := range map[string]string{
		filepath.Join(home, ".bashrc"): "export OPENAI_API_KEY=sk-a1\n",
		filepath.Join(here, ".env"):    "GITHUB_TOKEN=ghp-a1\n# ANTHROPIC_API_KEY=sk-a2\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const create = "aivault secrets create --name "
	store := []string{create + "OPENAI_API_KEY", "aivault secrets import --env-file " + filepath.Join(here, ".env"), create + "ANTHROPIC_API_KEY"}
	operator := api.CallerStatus{Operator: true}
	for what, c := range map[string]struct {
		client *client.Client
		status api.Status
		want   []string // how the hints begin
	}{
		"nobody answers":   {nil, api.Status{}, store},
		"no vault yet":     {new(client.Client), api.Status{Caller: operator, Vault: api.VaultStatus{State: vault.None}}, store},
		"a locked vault":   {new(client.Client), api.Status{Caller: operator, Vault: api.VaultStatus{State: vault.Locked}}, []string{"aivault unlock", "aivault unlock", "aivault unlock"}},
		"no operator's":    {new(client.Client), api.Status{Vault: api.VaultStatus{State: vault.Unlocked}}, []string{"when it is stored (" + store[0] + "): sed ", "when it is stored (" + create, "when it is stored (" + create}},
		"not to be opened": {new(client.Client), api.Status{Caller: operator, Vault: api.VaultStatus{State: "unavailable"}}, store},
	} {
		e := &exam{cfg: Config{Client: client.Config{Env: daemon.Env{Home: home}}, Dir: here}, client: c.client, status: c.status}
		e.visible(t.Context())
		if len(e.report.Checks) != len(c.want) {
			t.Fatalf("%s: %+v", what, e.report.Checks)
		}
		for i, f := range e.report.Checks {
			if f.Level != Warning || !strings.HasPrefix(f.Hint, c.want[i]) {
				t.Errorf("%s: %s: hint %q, want %q", what, f.What, f.Hint, c.want[i])
			}
		}
	}
}

// What a file is called is no part of a command.
func TestTheCommandThatRemoves(t *testing.T) {
	s := sighting{path: "/h/it's; rm -rf ~", line: 1, name: "KEY", after: '='}
	if got := s.remove(); !strings.HasSuffix(got, ` '/h/it'\''s; rm -rf ~'`) {
		t.Errorf("%s", got)
	}
}

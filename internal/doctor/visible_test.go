package doctor

import (
	"fmt"
	"os"
	"os/exec"
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
		`alias x="KEY=abc make"`:           "KEY",
		"alias x='A=1 KEY=abc make'":       "KEY",
		`OPTIONS="KEY='abc'"`:              "KEY",
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

// What a file is called is no part of a command, and a link stays one.
func TestTheCommandThatRemoves(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "it's; touch x #")
	text := "KEY=$(pass key)\nexport KEY='a b'\nKEY=$OTHER\n# KEY=abc\nKEY = c\r\nset -gx KEY d\nKEY=e"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	secret := func(name string) bool { return name == "KEY" }
	run := func(s sighting) {
		cmd := exec.Command("sh", "-c", s.remove())
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", s.remove(), err, out)
		}
	}
	seen := sightings(link, forms(), secret)
	if len(seen) != 5 {
		t.Fatalf("%+v", seen)
	}
	// In whichever order, and more than once.
	for _, s := range append(seen, seen...) {
		run(s)
	}
	const want = "KEY=$(pass key)\n\nKEY=$OTHER\n\n\n\n"
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	// What was changed meanwhile stays.
	const other = "1\nMY_KEY=2\n3\n4\nKEYS=5\n6\n7\n"
	if err := os.WriteFile(path, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, s := range seen {
		run(s)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != other {
		t.Errorf("%q, %v; want %q", got, err, other)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link became a file: %v, %v", info, err)
	}
}

// Import is named for what import reads.
func TestWhatImportReads(t *testing.T) {
	secret := func(name string) bool { return name == "KEY" }
	for line, want := range map[string]bool{
		"KEY=abc": true, " export KEY = 'abc' # kept": true, "# KEY=abc": false, "A=1 KEY=abc": false, `OPTIONS="KEY=abc"`: false, "setenv KEY abc": false,
	} {
		path := filepath.Join(t.TempDir(), ".env")
		if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
		if seen := sightings(path, forms(), secret); len(seen) != 1 || seen[0].dot != want {
			t.Errorf("%q: %+v", line, seen)
		}
	}
}

// No command takes away what else stands on the line, or half of a value.
func TestLinesToEditByHand(t *testing.T) {
	secret := func(name string) bool { return name == "KEY" }
	for _, text := range []string{
		"export A=1 KEY=abc", "KEY=abc A=1", "KEY=abc; A=1", "KEY=abc curl https://example.com", "KEY=abc # kept", `KEY="abc" A="b"`,
		"KEY=abc|tee", "KEY=abc&", "KEY=abc>f", "KEY=abc$(cat f)", `KEY="abc$(cat f)"`, "KEY=abc`cat f`", "KEY=a\"b c\"", "set -gx KEY abc def",
		"if true; then KEY=abc; fi", "\tKEY=abc", "test -f x && export KEY=abc",
		"KEY=\"abc\ndef\"", "KEY='abc\ndef'", "KEY=abc\\\ndef", `KEY="ab\"c"`, `alias x="KEY=abc make"`, `OPTIONS="KEY=abc"`, "PATH=x \\\nKEY=abc", "KEY=ab\xffc", "\xef\xbb\xbfKEY=abc",
		"KEY=" + strings.Repeat("a", maxVisibleSize-4) + " A=1",
	} {
		path := filepath.Join(t.TempDir(), ".bashrc")
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		seen := sightings(path, forms(), secret)
		if len(seen) != 1 || !strings.HasPrefix(seen[0].remove(), "edit "+path+" by hand: line ") {
			t.Errorf("%.60q: %+v", text, seen)
		}
	}
}

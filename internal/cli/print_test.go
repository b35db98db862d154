package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
)

func TestRenderAnswer(t *testing.T) {
	planned := api.Planned{Capability: "a/b", Credential: "a", Method: "POST", URL: "https://api.test/x"}
	const head = `{
  "planned": {
    "capability": "a/b",
    "credential": "a",
    "method": "POST",
    "url": "https://api.test/x"
  },
  "response": {
    "status": 200,
`
	for _, c := range []struct{ name, body, want string }{
		{"numbers and order", `{"z":1.0000000000000000001,"a":[12345678901234567890,1e2],"z2":"é"}`,
			"    \"json\": {\n      \"z\": 1.0000000000000000001,\n      \"a\": [\n        12345678901234567890,\n        1e2\n      ],\n      \"z2\": \"\u00e9\"\n    }\n"},
		{"string escapes", `"\u00e9\/"`, "    \"json\": \"\\u00e9\\/\"\n"},
		{"null", "null", "    \"json\": null\n"},
		{"false", " false\n", "    \"json\": false\n"},
		{"ends like the frame", `{"null":{"a":null}}`, "    \"json\": {\n      \"null\": {\n        \"a\": null\n      }\n    }\n"},
		{"duplicate names", `{"a":1,"a":2}`, "    \"json\": {\n      \"a\": 1,\n      \"a\": 2\n    }\n"},
		{"text", "hello <b>\n", "    \"text\": \"hello <b>\\n\"\n"},
		{"two values are text", "{}{}", "    \"text\": \"{}{}\"\n"},
		{"nothing", "", "    \"text\": \"\"\n"},
		{"binary", "\xff\xfe\x00", "    \"bodyBase64\": \"//4A\"\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := renderAnswer(planned, 200, []byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(head+c.want+"  }\n}\n", string(got)); d != "" {
				t.Error(d)
			}
		})
	}
}

func answerOf(status int, body string) *client.Answer {
	return &client.Answer{Status: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

// broken ends with an error after some bytes.
type broken struct{ r io.Reader }

func (b broken) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if errors.Is(err, io.EOF) {
		err = api.Errorf(api.UpstreamTimeout, "the upstream fell silent")
	}
	return n, err
}
func (broken) Close() error { return nil }

func TestOutputFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	names := func() (list []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			list = append(list, e.Name())
		}
		return list
	}
	o, out, _ := testOptions(t, nil)
	f := &callFlags{output: path}

	// What breaks off leaves nothing.
	err := f.showBody(t.Context(), o, &client.Answer{Status: 200, Body: broken{strings.NewReader("half")}})
	if api.CodeOf(err) != api.UpstreamTimeout || len(names()) != 0 {
		t.Fatalf("%v, left: %v", err, names())
	}
	if err := f.showBody(t.Context(), o, answerOf(200, "\x00whole")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "\x00whole" {
		t.Fatalf("%q, %v", got, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// A failure keeps what was there.
	f.fail = true
	if err := f.showBody(t.Context(), o, answerOf(500, "oops")); err != nil {
		t.Fatal(err)
	}
	err = f.showBody(t.Context(), o, &client.Answer{Status: 200, Body: broken{strings.NewReader("half")}})
	if got, _ := os.ReadFile(path); err == nil || string(got) != "\x00whole" {
		t.Errorf("%q, %v", got, err)
	}
	// A link stays a link, and what is no file is not replaced.
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	f.output = link
	if err := f.showBody(t.Context(), o, answerOf(200, "new")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "new" {
		t.Errorf("%q, %v", got, err)
	}
	f.output = os.DevNull
	if err := f.showBody(t.Context(), o, answerOf(200, "x")); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(os.DevNull); err != nil || info.Mode().IsRegular() {
		t.Fatal("replaced " + os.DevNull)
	}
	f.output = dir
	if err := f.showBody(t.Context(), o, answerOf(200, "x")); err == nil {
		t.Error("wrote a directory")
	}
	f.output = filepath.Join(dir, "none", "x")
	if err := f.showBody(t.Context(), o, answerOf(200, "x")); err == nil {
		t.Error("wrote into a directory that is not there")
	}
	if d := cmp.Diff([]string{"link", "out"}, names()); d != "" || out.Len() > 0 {
		t.Errorf("left over: %s; printed %q", d, out)
	}
}

// onTerminal runs do with a terminal as standard output and returns what the
// terminal got.
func onTerminal(t *testing.T, do func(o *Options) error) (string, error) {
	t.Helper()
	person, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer person.Close()
	o, _, _ := testOptions(t, nil, "TERM=xterm")
	o.Out = tty
	err = do(o)
	_, _ = tty.WriteString("|end")
	var screen []byte
	buf := make([]byte, 4096)
	for !bytes.HasSuffix(screen, []byte("|end")) {
		n, rerr := person.Read(buf)
		screen = append(screen, buf[:n]...)
		if rerr != nil {
			t.Fatal(rerr)
		}
	}
	_ = tty.Close()
	return strings.ReplaceAll(strings.TrimSuffix(string(screen), "|end"), "\r\n", "\n"), err
}

func TestTerminal(t *testing.T) {
	f := &callFlags{}
	screen, err := onTerminal(t, func(o *Options) error {
		return f.showBody(context.Background(), o, answerOf(200, "a\x1b]0;title\a\nb"))
	})
	if err != nil || screen != "a\\u001b]0;title\\u0007\nb\n" {
		t.Errorf("%q, %v", screen, err)
	}
	// A line that the answer ended is not ended again, and nothing stays nothing.
	for _, body := range []string{"a\n", ""} {
		screen, err = onTerminal(t, func(o *Options) error { return f.showBody(context.Background(), o, answerOf(200, body)) })
		if err != nil || screen != body {
			t.Errorf("%q, %v", screen, err)
		}
	}
	screen, err = onTerminal(t, func(o *Options) error {
		return f.showBody(context.Background(), o, answerOf(200, "\x89PNG\x00"))
	})
	if api.CodeOf(err) != api.InvalidRequest || !strings.Contains(api.AsError(err).Hint, "-o FILE") || strings.Contains(screen, "PNG") {
		t.Errorf("%q, %v", screen, err)
	}
	screen, err = onTerminal(t, func(o *Options) error {
		return o.printJSON(api.SecretList{Secrets: []api.Secret{{Name: "a\u009b31m\u202e"}}})
	})
	if err != nil || !strings.Contains(screen, `"a\u009b31m\u202e"`) {
		t.Errorf("%q, %v", screen, err)
	}
}

func TestStatusTable(t *testing.T) {
	o, out, _ := testOptions(t, nil)
	err := o.printTable(statusTable(api.Status{
		Vault:  api.VaultStatus{Dir: "/v", State: "unlocked", Generation: 3},
		Key:    &api.KeyStatus{Provider: "file", Detail: "/v/kek.key"},
		Daemon: &api.DaemonStatus{Socket: "/run/s", PID: 42, Version: "1.0"},
		Caller: api.CallerStatus{UID: 1000, User: "ann\x1b[2J", Operator: true},
		Providers: []api.ProviderStatus{
			{Provider: "trello", Waiting: []string{"TRELLO_TOKEN"}},
			{Provider: "openai", Ready: true, Capabilities: 20},
			{Provider: "acme", Ready: true, Capabilities: 1},
		},
		Problems: []api.Problem{{What: "credential bad", Why: "host is none", Hint: "aivault credential delete bad"}},
		Strength: "agents of this user can read the key file",
	}))
	want := `Vault         /v (unlocked)
Key provider  file (/v/kek.key)
Daemon        /run/s, own, pid 42, version 1.0
You are       ann\u001b[2J (uid 1000), operator
Providers     openai: ready, 20 capabilities
              acme: ready, 1 capability
              trello: waiting for TRELLO_TOKEN
Problems      credential bad: host is none (aivault credential delete bad)
Strength      agents of this user can read the key file
`
	if d := cmp.Diff(want, out.String()); d != "" || err != nil {
		t.Error(d, err)
	}
	out.Reset()
	if err := o.printTable(statusTable(api.Status{Vault: api.VaultStatus{State: "locked"}})); err != nil || !strings.Contains(out.String(), "Providers  not known while the vault is locked\n") {
		t.Errorf("%v, %s", err, out)
	}
	out.Reset()
	if err := o.printTable(statusTable(api.Status{Vault: api.VaultStatus{State: "none"}, Caller: api.CallerStatus{UID: 7}})); err != nil {
		t.Fatal(err)
	}
	want = `Vault      none
Daemon     none: the broker runs in this process
You are    uid 7, caller
Providers  none yet
Problems   none
`
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
}

func TestCreatedLines(t *testing.T) {
	for _, c := range []struct {
		s    api.Secret
		want []string
	}{
		{api.Secret{Name: "OPENAI_API_KEY", PinnedProvider: "openai", Credential: new("openai"), Capabilities: make([]string, 20)},
			[]string{"Secret created: OPENAI_API_KEY (pinned to provider: openai)", "Credential auto-provisioned: openai (20 capabilities enabled)"}},
		{api.Secret{Name: "K", PinnedProvider: "p", Credential: new("p"), Capabilities: []string{"p/x"}},
			[]string{"Secret created: K (pinned to provider: p)", "Credential auto-provisioned: p (1 capability enabled)"}},
		{api.Secret{Name: "TRELLO_API_KEY", PinnedProvider: "trello", Waiting: []string{"TRELLO_TOKEN"}},
			[]string{"Secret created: TRELLO_API_KEY (pinned to provider: trello)", "Waiting for TRELLO_TOKEN to complete trello credential"}},
		{api.Secret{Name: "MINE", Credential: new(""), Capabilities: []string{}}, []string{"Secret created: MINE"}},
	} {
		if d := cmp.Diff(c.want, createdLines(c.s)); d != "" {
			t.Error(d)
		}
	}
}

func TestCapabilityList(t *testing.T) {
	list := api.CapabilityList{
		Capabilities: []api.CapabilitySummary{
			{ID: "openai/models", Provider: "openai", Ready: true, Origin: "registry", Access: "read", Methods: []string{"GET"}, Description: "List models"},
			{ID: "github/repos", Provider: "github", Origin: "registry", Access: "read", Methods: []string{"GET"}, Description: "Repositories", Reason: "needs GITHUB_TOKEN"},
		},
		Available: []api.AvailableProvider{{Provider: "github", Title: "GitHub", Capabilities: 1, Secrets: []string{"GITHUB_TOKEN"}},
			{Provider: "trello", Title: "Trello", Capabilities: 9, Secrets: []string{"TRELLO_API_KEY", "TRELLO_TOKEN"}}},
	}
	for _, c := range []struct {
		name  string
		flags listFlags
		want  string
	}{
		{"all that was answered", listFlags{}, `CAPABILITY     ACCESS  METHODS  STATE               DESCRIPTION
openai/models  read    GET      ready               List models
github/repos   read    GET      needs GITHUB_TOKEN  Repositories

AVAILABLE  CAPABILITIES  STORE ITS SECRET WITH
github     1             aivault secrets create --name GITHUB_TOKEN
trello     9             aivault secrets create --name TRELLO_API_KEY (and TRELLO_TOKEN)
`},
		{"its provider's name", listFlags{search: "github"}, `CAPABILITY    ACCESS  METHODS  STATE               DESCRIPTION
github/repos  read    GET      needs GITHUB_TOKEN  Repositories

AVAILABLE  CAPABILITIES  STORE ITS SECRET WITH
github     1             aivault secrets create --name GITHUB_TOKEN
`},
		{"search", listFlags{search: "MODELS"}, `CAPABILITY     ACCESS  METHODS  STATE  DESCRIPTION
openai/models  read    GET      ready  List models
`},
		{"nothing", listFlags{search: "zzz"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, out, errs := testOptions(t, nil)
			if err := o.printCapabilities(c.flags, c.flags.choose(list)); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, out.String()); d != "" {
				t.Error(d)
			}
			if c.want == "" && errs.Len() == 0 {
				t.Error("said nothing at all")
			}
		})
	}
}

func TestAuditTable(t *testing.T) {
	o, out, _ := testOptions(t, nil)
	err := o.printTable(auditTable(api.AuditList{Records: []api.RawRecord{
		api.RawRecord(`{"seq":1,"prev":"00","atMs":1700000000000,"event":"secret.created","caller":{"uid":0,"gid":0,"user":"root"},"name":"K","provider":"openai","generation":2}`),
		api.RawRecord(`{"seq":2,"prev":"01","atMs":1700000001000,"event":"call.finished","caller":{"uid":5,"gid":5},"capability":"a/b","method":"GET","host":"api.test","path":"/v1","status":200,"bytes":10,"durationMs":7,"redactions":1,"later":true}`),
		api.RawRecord(`{"seq":3,"prev":"02","atMs":1700000002000,"event":"call.refused","capability":"a/b\u001b[2J","code":"policy_violation","reason":"path"}`),
		api.RawRecord(`{"seq":4,"prev":"03","atMs":1700000003000,"event":"call.allowed","capability":"a/b","method":"GET","host":"api.test","path":"/v1","set":"a/*","scope":"workspace:w"}`),
		api.RawRecord(`{"seq":5,"prev":"04","atMs":1700000004000,"event":"binding.set","object":"b-1","capability":"a/*","credential":"c","scope":"global","name":"uid 7","provider":"a"}`),
		api.RawRecord(`{"seq":6,"prev":"05","atMs":1700000005000,"event":"grant.added","object":"g-1","capability":"a/*, b/c","name":"user u","scope":"group:w:g"}`),
		api.RawRecord(`{"seq":7,"prev":"06","atMs":1700000006000,"event":"policy.set","object":"a/b","capability":"a/b","provider":"a","generation":3}`),
		api.RawRecord(`{"seq":8,"prev":"07","atMs":1700000007000,"event":"grant.default","object":"deny"}`),
	}}))
	want := `TIME                  SEQ  EVENT           WHO    WHAT                                          RESULT
2023-11-14T22:13:20Z  1    secret.created  root   K (openai)                                    generation 2
2023-11-14T22:13:21Z  2    call.finished   uid 5  a/b GET api.test /v1                          200, 10 bytes, 7 ms, 1 redaction
2023-11-14T22:13:22Z  3    call.refused    -      a/b\u001b[2J                                  policy_violation, path
2023-11-14T22:13:23Z  4    call.allowed    -      a/b GET api.test /v1 as a/* in workspace:w    -
2023-11-14T22:13:24Z  5    binding.set     -      a/* to c for uid 7                            -
2023-11-14T22:13:25Z  6    grant.added     -      user u to call a/*, b/c in group:w:g          -
2023-11-14T22:13:26Z  7    policy.set      -      a/b (a)                                       generation 3
2023-11-14T22:13:27Z  8    grant.default   -      deny                                          -
`
	fold := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	if d := cmp.Diff(fold(want), fold(out.String())); d != "" || err != nil {
		t.Error(d, err)
	}
}

// After an update the old daemon still runs: its operator is told.
func TestStatusNamesAnOldDaemon(t *testing.T) {
	o, _, errs := testOptions(t, nil)
	o.Build.Version = "2.0"
	operator := api.CallerStatus{Operator: true}
	for _, c := range []struct {
		s    api.Status
		want string
	}{
		{api.Status{Daemon: &api.DaemonStatus{Version: "1.0"}, Caller: operator}, "notice: the daemon is version 1.0, and this program 2.0: aivault restart\n"},
		{api.Status{Daemon: &api.DaemonStatus{Version: "2.0"}, Caller: operator}, ""},
		{api.Status{Daemon: &api.DaemonStatus{Version: "1.0"}}, ""},
		{api.Status{Daemon: &api.DaemonStatus{Version: "1.0", Shared: true}, Caller: operator}, ""},
		{api.Status{Caller: operator}, ""},
	} {
		errs.Reset()
		if o.noticeVersion(c.s); errs.String() != c.want {
			t.Errorf("%+v: %q, want %q", c.s, errs, c.want)
		}
	}
}

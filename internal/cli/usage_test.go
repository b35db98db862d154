package cli

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
)

// TestUsageErrors are command lines that fail before any daemon is asked.
func TestUsageErrors(t *testing.T) {
	const secretText = "sk-live-9c41"
	for _, c := range []struct {
		args []string
		want string // standard error, exactly
	}{
		{[]string{"secrets", "get", "X"}, "error: aivault never prints a secret\n"},
		{[]string{"secrets", "show", "--id", "x"}, "error: aivault never prints a secret\n"},
		{[]string{"secret", "reveal"}, "error: aivault never prints a secret\n"},
		{[]string{"secrets", "export", "--all", "-o", "x"}, "error: aivault never prints a secret\n"},
		{[]string{"resolve", "vault:secret:x"}, "error: aivault never prints a secret\n"},
		{[]string{"secrets", "get", "X", "--json"}, `{"error":"invalid_request","message":"aivault never prints a secret"}` + "\n"},
		{[]string{"frobnicate"}, "error: unknown command \"frobnicate\" for \"aivault\"\nhint: aivault help\n"},
		{[]string{"statsu"}, "error: unknown command \"statsu\" for \"aivault\"\nhint: did you mean: aivault status\n"},
		{[]string{secretText}, "error: aivault has no such command\nhint: aivault help\n"},
		{[]string{"daemon", secretText}, "error: aivault daemon has no such command\nhint: aivault help daemon\n"},
		{[]string{"secrets", "create", "--name", "A", "--vlue", secretText}, "error: unknown flag --vlue\nhint: aivault help secrets create\n"},
		{[]string{"secrets", "create", "-x" + secretText}, "error: unknown flag -x\nhint: aivault help secrets create\n"},
		{[]string{"secrets", "create", "A", secretText}, "error: too many arguments: give one name; a value comes from the prompt, a pipe or --value-file\nhint: aivault help secrets create\n"},
		{[]string{"secrets", "rotate", "A", secretText}, "error: too many arguments: give one secret; a value comes from the prompt, a pipe or --value-file\nhint: aivault help secrets rotate\n"},
		{[]string{"secrets", "delete", "A", secretText}, "error: too many arguments: give one secret\nhint: aivault help secrets delete\n"},
		{[]string{"secrets", "create", "--value", secretText}, "error: no name given\nhint: aivault help secrets create\n"},
		{[]string{"secrets", "create", "--name", "A", "--scope", "workspace"}, "error: --scope cannot be \"workspace\": it takes global\nhint: aivault help secrets create\n"},
		{[]string{"secrets", "create", "--name", "A", "--value", "a", "--value-file", "b"}, "error: --value and --value-file exclude each other\nhint: aivault help secrets create\n"},
		{[]string{"secrets", "create", "--name", "A", "--value-file", "-"}, "error: --value-file is empty\nhint: aivault help secrets create\n"},
		{[]string{"secrets", "create", "--name", "A"}, "error: standard input is empty\nhint: aivault help secrets create\n"},
		{[]string{"secrets", "update", "A"}, "error: nothing to change: give --new-name, --alias or --clear-aliases\nhint: aivault help secrets update\n"},
		{[]string{"secrets", "delete"}, "error: no secret given\nhint: aivault help secrets delete\n"},
		{[]string{"secrets", "rm", "a", "--id", "b"}, "error: the secret is given twice, as \"a\" and as \"b\"\nhint: aivault help secrets delete\n"},
		{[]string{"unlock", "--for", "soon"}, "error: flag --for cannot be soon: it takes a duration, such as 30s or 8h\nhint: aivault help unlock\n"},
		{[]string{"unlock", "--for", "1ms"}, "error: --for must be a second or more\nhint: aivault help unlock\n"},
		{[]string{"unlock", "--passphrase"}, "error: flag --passphrase needs a value\nhint: aivault help unlock\n"},
		{[]string{"lock", secretText}, "error: aivault lock takes no arguments, only flags\nhint: aivault help lock\n"},
		{[]string{"init", "--provider", "cloud"}, "error: --provider cannot be \"cloud\": it takes file, passphrase or env\nhint: aivault help init\n"},
		{[]string{"init", "--provider", "env", "--file-path", "/x"}, "error: --file-path belongs to --provider file, not to env\nhint: aivault help init\n"},
		{[]string{"init", "--provider", "file", "--env-var", "X"}, "error: --env-var belongs to --provider env, not to file\nhint: aivault help init\n"},
		{[]string{"init", "--provider", "file", "--passphrase", secretText}, "error: a passphrase or key belongs to --provider passphrase, not to file\nhint: aivault help init\n"},
		{[]string{"init", "--provider", "env", "--env-var", "NOT_SET_HERE"}, "error: the variable \"NOT_SET_HERE\" is not set\nhint: export NOT_SET_HERE=\"$(openssl rand -base64 32)\" and keep a copy of it\n"},
		{[]string{"rotate-master", "--new-key", "a", "--new-passphrase", "b"}, "error: give a new key or a new passphrase, not both\nhint: aivault help rotate-master\n"},
		{[]string{"credential", "create", "a"}, "error: no secret given: name one with --secret or --secret-ref\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--secret", "B"}, "error: two secrets for one field: name each field once, as in --secret FIELD=NAME\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret-ref", "NAME"}, "error: --secret-ref takes [FIELD=]vault:secret:ID; --secret takes a name\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--header-name", "X"}, "error: --header-name belongs to --auth header\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "basic", "--value-template", "X"}, "error: --value-template belongs to --auth header or query\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "multi-header", "--auth-header", "X"}, "error: --auth-header takes NAME=VALUE\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "bearer"}, "error: --auth cannot be \"bearer\": it takes header, query, path, basic, multi-header or multi-query\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "query"}, "error: --auth query needs --query-param\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "path"}, "error: --auth path needs --path-prefix-template\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "multi-header"}, "error: --auth multi-header needs --auth-header\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "multi-query"}, "error: --auth multi-query needs --auth-query\nhint: aivault help credential create\n"},
		{[]string{"capability", "create", "a/b", "--method", "GET"}, "error: a capability needs at least one --method and one --path\nhint: aivault help capability create\n"},
		{[]string{"capability", "describe"}, "error: no capability given\nhint: aivault help capability describe\n"},
		{[]string{"invoke"}, "error: no capability given\nhint: aivault help invoke\n"},
		{[]string{"capability", "call"}, "error: no capability given\nhint: aivault help capability invoke\n"},
		{[]string{"help", "frobnicate"}, "error: unknown command \"frobnicate\" for \"aivault\"\nhint: aivault help\n"},
		{[]string{"help", "secrets", "creat"}, "error: unknown command \"creat\" for \"aivault secrets\"\nhint: did you mean: aivault secrets create\n"},
		{[]string{"completion", "tcsh"}, "error: completions are written for bash, zsh, fish and powershell\nhint: aivault help completion\n"},
		{[]string{"completion"}, "error: completions are written for bash, zsh, fish and powershell\nhint: aivault help completion\n"},
		{[]string{"audit", "--limit", "0"}, "error: --limit can be 1 to 10000\nhint: aivault help audit\n"},
		{[]string{"audit", "--limit", "10001"}, "error: --limit can be 1 to 10000\nhint: aivault help audit\n"},
		{[]string{"audit", "--limit", "many"}, "error: flag --limit cannot be many: it takes a whole number\nhint: aivault help audit\n"},
		{[]string{"audit", "--json=perhaps"}, "error: flag --json cannot be perhaps: it takes true or false\nhint: aivault help audit\n"},
		{[]string{"daemon", "logs", "--follow", "--json"}, `{"error":"invalid_request","message":"--follow and --json exclude each other","hint":"aivault help daemon logs"}` + "\n"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			o, out, errs := testOptions(t, strings.NewReader(""))
			if exit := o.Run(t.Context(), c.args); exit != 2 {
				t.Errorf("exit %d", exit)
			}
			got := errs.String()
			// What --passphrase says of itself comes first.
			if i := strings.Index(got, "error:"); i > 0 {
				got = got[i:]
			}
			if got != c.want {
				t.Errorf("standard error:\n got %q\nwant %q", got, c.want)
			}
			if out.Len() > 0 {
				t.Errorf("standard output: %q", out)
			}
			if strings.Contains(errs.String(), secretText) {
				t.Error("the text repeats what may be a secret")
			}
		})
	}
}

func TestBadEnvironmentIsAnError(t *testing.T) {
	o, _, errs := testOptions(t, strings.NewReader(""), "AIVAULTD_AUTOSTART=perhaps")
	if exit := o.Run(t.Context(), []string{"status"}); exit != 2 || !strings.Contains(errs.String(), "AIVAULTD_AUTOSTART") {
		t.Errorf("exit %d: %s", exit, errs)
	}
	// What needs no environment works in any.
	for _, args := range [][]string{{"version"}, {"help"}, {"help", "values"}, {"help", "secrets", "create"}, {"help", "cap", "ls"}, {"completion", "bash"}} {
		if exit := o.Run(t.Context(), args); exit != 0 {
			t.Errorf("%v: exit %d", args, exit)
		}
	}
}

// full is an output that takes nothing more.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestAnOutputThatIsFullIsAnError(t *testing.T) {
	for _, args := range [][]string{{}, {"help"}, {"--help"}, {"help", "values"}, {"secrets"}, {"secrets", "create", "--help"}, {"version"}, {"--version"},
		{"completion", "bash"}, {"completion", "zsh"}, {"completion", "fish"}, {"completion", "powershell"}, {"__complete", "secr"}} {
		o, _, errs := testOptions(t, strings.NewReader(""))
		o.Out = full{}
		exit := o.Run(t.Context(), args)
		if said := strings.TrimPrefix(errs.String(), "Completion ended with directive: ShellCompDirectiveNoFileComp\n"); exit != 1 || said != "error: no space left on device\n" {
			t.Errorf("%v: exit %d, %q", args, exit, said)
		}
	}
}

func TestErrorForm(t *testing.T) {
	for _, c := range []struct {
		err  error
		json bool
		exit int
		want string
	}{
		{api.Errorf(api.VaultLocked, "the vault is locked").WithHint("aivault unlock"), false, 4, "error: the vault is locked\nhint: aivault unlock\n"},
		{api.Errorf(api.PolicyViolation, "no\nsuch\x1b[31m path"), false, 3, "error: no; such\\u001b[31m path\n"},
		{&api.Error{Code: api.RateLimited, Message: "wait", RetryAfterMs: 1500}, true, 3, `{"error":"rate_limited","message":"wait","retryAfterMs":1500}` + "\n"},
	} {
		o, _, errs := testOptions(t, nil)
		o.JSON = c.json
		if exit := o.fail(c.err); exit != c.exit || errs.String() != c.want {
			t.Errorf("%v: exit %d, %q", c.err, exit, errs)
		}
	}
}

// TestExitStatuses: whatever a command fails with, its status is the table's.
func TestExitStatuses(t *testing.T) {
	documented := map[int]bool{}
	for _, row := range exitMeaning() {
		documented[row.Exit] = true
	}
	for _, outcome := range api.Outcomes() {
		o, _, _ := testOptions(t, nil)
		if exit := o.fail(api.Errorf(outcome.Code, "x")); exit != outcome.Exit {
			t.Errorf("%s: exit %d, want %d", outcome.Code, exit, outcome.Exit)
		}
		if !documented[outcome.Exit] {
			t.Errorf("exit %d is not in help exit-codes", outcome.Exit)
		}
	}
}

// TestHelp: every command explains itself, and nothing that does not work is
// offered.
func TestHelp(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: Short is %q", cmd.CommandPath(), cmd.Short)
		}
		o, out, errs := testOptions(t, nil)
		args := append(strings.Fields(cmd.CommandPath())[1:], "--help")
		if exit := o.Run(t.Context(), args); exit != 0 || out.Len() == 0 || errs.Len() > 0 {
			t.Errorf("%v: exit %d, %s", args, exit, errs)
		}
		for _, child := range cmd.Commands() {
			walk(child)
		}
	}
	o, _, _ := testOptions(t, nil)
	walk(newRoot(o))
	for _, word := range []string{"reveal", "resolve", "export"} {
		o, out, _ := testOptions(t, nil)
		o.Run(t.Context(), []string{"secrets", "--help"})
		if strings.Contains(out.String(), word) {
			t.Errorf("help offers %s", word)
		}
	}
}

func TestVersion(t *testing.T) {
	o, out, _ := testOptions(t, nil)
	o.Build.Version, o.Build.Commit, o.Build.Go = "1.2.3", "abc", "go1.26"
	for _, args := range [][]string{{"version"}, {"--version"}} {
		out.Reset()
		if exit := o.Run(t.Context(), args); exit != 0 {
			t.Fatalf("exit %d", exit)
		}
		for _, want := range []string{"aivault 1.2.3", "abc", "go1.26"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%v: %q lacks %q", args, out, want)
			}
		}
	}
	out.Reset()
	o.Run(t.Context(), []string{"version", "-v"})
	var v versionInfo
	if err := json.Unmarshal(out.Bytes(), &v); err != nil || v.Version != "1.2.3" || v.Commit != "abc" || v.Go != "go1.26" {
		t.Errorf("%s: %v", out, err)
	}
}

package cli

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/daemon"
)

// newTopics are the texts of `aivault help TOPIC`: commands that only explain.
func newTopics() []*cobra.Command {
	return []*cobra.Command{
		{Use: "environment", Short: "The variables that aivault reads", Long: environmentTopic()},
		{Use: "exit-codes", Short: "What each exit status means", Long: exitTopic()},
		{Use: "values", Short: "The ways to enter a secret", Long: valuesTopic},
		{Use: "paths", Short: "How path rules of capabilities are read", Long: pathsTopic},
		{Use: "scopes", Short: "Whose a secret is, and which account a call uses", Long: scopesTopic},
		{Use: "patterns", Short: "How several capabilities are named at once", Long: patternsTopic},
	}
}

func environmentTopic() string {
	var b strings.Builder
	b.WriteString("aivault reads these variables and no others. A value that cannot be parsed is an error.\n\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, v := range daemon.Variables() {
		_, _ = fmt.Fprintf(w, "  %s\t%s\n", v.Name, v.Meaning)
	}
	_ = w.Flush()
	return trimLines(b.String())
}

// exitMeaning explains the exit statuses of api.Outcomes and the others.
func exitMeaning() []struct {
	Exit    int
	Meaning string
} {
	return []struct {
		Exit    int
		Meaning string
	}{
		{api.ExitOK, "done; for invoke: an answer came back, whatever its status"},
		{1, "failed"},
		{2, "wrong usage"},
		{3, "refused"},
		{4, "no key: the vault is locked or missing"},
		{5, "the upstream could not be reached or used"},
		{6, "not found"},
		{7, "the daemon cannot be reached"},
		{api.ExitUpstream4xx, "--fail was given and the upstream answered 400 or more"},
		{api.ExitInterrupted, "interrupted"},
	}
}

func exitTopic() string {
	var b strings.Builder
	b.WriteString("An error is one line on standard error, with a hint where there is one; with --json it is\n" +
		"one JSON object: {\"error\":CODE,\"message\":…,\"hint\":…}.\n\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range exitMeaning() {
		_, _ = fmt.Fprintf(w, "  %d\t%s\t%s\n", row.Exit, row.Meaning, strings.Join(codesOf(row.Exit), " "))
	}
	_ = w.Flush()
	return trimLines(b.String())
}

// trimLines drops the blanks with which a column was filled up.
func trimLines(text string) string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		lines = append(lines, strings.TrimRight(line, " "))
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

func codesOf(exit int) []string {
	var codes []string
	for _, o := range api.Outcomes() {
		if o.Exit == exit {
			codes = append(codes, string(o.Code))
		}
	}
	return codes
}

const valuesTopic = `A secret, a key or a passphrase can be entered in four ways:

  at the terminal   give no flag: you are asked, and nothing is echoed; a new passphrase is
                    asked for twice
  through a pipe    give no flag: standard input is read when it is a pipe or a file
  from a file       --value-file PATH, --passphrase-file PATH; - is standard input
  as an argument    --value V, --passphrase V: other processes can see it, and your shell
                    writes it to its history

One newline at the end of a file or a pipe is dropped. Standard input can serve one flag only.
Secrets should be entered by a person, not by an agent: agent frameworks keep what they see.`

const pathsTopic = `The path rules of a capability, in a registry entry and in capability create --path:

  /v1/users      /v1/users and everything below it, by whole segments: /v1/users/7, but not
                 /v1/users-old
  =/v1/users     /v1/users alone
  /v1/*/runs     * stands for one segment, or for part of one: /v1/a/runs, not /v1/a/b/runs
  /v1/*%2F*      a segment with an escaped slash in it: /v1/group%2Fproject; no other rule admits
                 one

A call's path is judged as it is sent. A path that two readers could read in two ways is refused.`

const scopesTopic = `A secret, and a credential, belongs to a scope; a call is made in a context. Both are named by
the same flags:

  (none)                              global
  --workspace-id W                    workspace:W
  --workspace-id W --group-id G       group:W:G

--scope global, workspace or group says so twice, and is checked. The same name may exist once in
each scope. A call sees what belongs to its group, what is attached to its group (secrets
attach-group), what belongs to its workspace, and what is global, in this order, and nothing of
any other scope. A call in no workspace sees what is global alone.

Which account a call uses:

  1. the one that --credential names, if the call sees it
  2. the one that the caller is bound to (capability bind --user, --uid, --group-name)
  3. the one that everyone is bound to
  4. that of the most specific scope that has one; two of one scope are ambiguous (exit 2)

The context of a call is a claim of the caller's. It chooses among accounts; what a caller may
claim, grants say: aivault help grant.`

const patternsTopic = `Where several capabilities can be named (capability enable, disable and bind, grant add,
secrets create --only), a pattern does it:

  openai/models      that capability
  github/issues      the members of that set, as they are now; where a capability has the same
                     name, that capability alone
  openai/*           every capability of openai, also those that a later version adds
  *-read             every capability whose id ends so
  *                  every capability

capability bind takes no sets: a binding is for one capability, or for a pattern with *.

* stands for any text. Quote it, or the shell makes file names of it. What administers an account
is never turned on by a *, or by a set.

A call can name a set, or a pattern of one provider such as 'github/*'. It goes to the most
specific member that admits its method and path, and is judged, limited and recorded as that.`

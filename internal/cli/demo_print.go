package cli

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/term"
)

// printDemo tells the demo's story. Every text that came from the API passes
// term.Line.
func (o *Options) printDemo(run *demoRun) error {
	s := term.NewStyle(o.Out, lookup(o.Environ, "NO_COLOR"), lookup(o.Environ, "TERM"))
	var b strings.Builder
	step := func(n int, text string) { fmt.Fprintf(&b, "\n%s  %s\n\n", s.Bold(strconv.Itoa(n)), s.Bold(text)) }

	b.WriteString("aivault demo: a throw-away vault, and an HTTPS API on this machine. No network, no key of yours.\n")
	step(1, "A person stores a key, and says where it may go")
	fmt.Fprintf(&b, "   vault       %s\n", term.Line(run.Vault))
	fmt.Fprintf(&b, "   secret      DEMO_KEY, made up for this run\n")
	fmt.Fprintf(&b, "   may go to   https://%s, as \"Authorization: Bearer …\", and nowhere else\n", run.Host)

	step(2, "An agent calls. It names no URL and holds no key")
	fmt.Fprintf(&b, "   $ aivault invoke %s --body '%s'\n\n", run.Capability, demoBody)
	auth, body := run.echoed()
	sideBySide(&b, s, "what the caller got", []string{
		"status         " + statusText(run.CallerGot.Status),
		"authorization  " + auth,
		"body           " + body,
	}, "what the API received", []string{
		"request        " + run.APIReceived.Method + " " + run.APIReceived.Path,
		"authorization  " + run.APIReceived.Authorization,
		"body           " + run.APIReceived.Body,
	})
	b.WriteString("\n   The API repeats in its answer whatever it receives; the key was taken out on the way back.\n")
	b.WriteString("   (It is shown on the right because it was made up for this demo and is gone in a moment.)\n")

	step(3, "Three attacks by the same agent")
	for _, a := range run.Attacks {
		fmt.Fprintf(&b, "   %-17s %-32s %s %s\n", a.Name, a.Command, s.Green("refused"), s.Dim("("+string(a.Code)+")"))
		fmt.Fprintf(&b, "   %-17s %s\n", "", s.Dim(term.Line(a.Why)))
	}
	fmt.Fprintf(&b, "\n   The API saw %s: the one from step 2.\n", plural(run.APIRequests, "request", "requests"))

	step(4, "The audit log: each line bound to the one before it")
	t := auditTable(demoAudit(run.Audit))
	if err := t.rows.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(t.buf.String()) {
		b.WriteString("   " + strings.TrimRight(line, " \n") + "\n")
	}
	b.WriteString("\nEverything above is removed. Your own key next: aivault secrets create --name OPENAI_API_KEY\n")
	_, err := fmt.Fprint(o.Out, b.String())
	return err
}

// demoAudit leaves out what the demo has told already: why the attacks were
// refused, and that each change of the vault is on disk.
func demoAudit(all []api.RawRecord) api.AuditList {
	var list api.AuditList
	for _, raw := range all {
		var fields map[string]any
		if err := json.Unmarshal(raw, &fields); err != nil || fields["event"] == audit.VaultCommitted {
			continue
		}
		delete(fields, "reason")
		if line, err := json.Marshal(fields); err == nil {
			list.Records = append(list.Records, line)
		}
	}
	return list
}

// sideBySide prints two columns of lines.
func sideBySide(b *strings.Builder, s term.Style, leftHead string, left []string, rightHead string, right []string) {
	width := utf8.RuneCountInString(leftHead)
	for i := range left {
		left[i], right[i] = term.Line(left[i]), term.Line(right[i])
		width = max(width, utf8.RuneCountInString(left[i]))
	}
	pad := func(text string) string { return strings.Repeat(" ", width-utf8.RuneCountInString(text)+4) }
	fmt.Fprintf(b, "   %s%s%s\n", s.Bold(leftHead), pad(leftHead), s.Bold(rightHead))
	for i := range left {
		fmt.Fprintf(b, "   %s%s%s\n", left[i], pad(left[i]), right[i])
	}
}

package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
)

func newExplain(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain CAPABILITY",
		Short: "Say whether a call would go out, and if not, what stands in its way",
		Long: "Takes what invoke takes and decides it in the same way, without calling: every check in order,\n" +
			"the first that fails, the capability that would have allowed it, and the command that would\n" +
			"change it. Nothing is counted against a limit. The exit status is 0 when the call would go\n" +
			"out, else the one that the call would have; and 0 where there is no vault yet, since then the\n" +
			"registry alone is asked. A caller who is no operator learns that much and no more. --output and --fail are about an answer; there is none.",
		Example: "  aivault explain openai/chat-completions --body '{\"model\":\"gpt-5.2\",\"messages\":[]}'\n" +
			"  aivault explain github/repos-read -X DELETE --path /repos/cli/cli     # exit 3",
		ValidArgsFunction: o.completeAnyCapability,
	}
	f := newCallFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		id, err := f.id.get(args)
		if err != nil {
			return err
		}
		p, err := f.prepare(ctx, o, cmd, id)
		if err != nil {
			return err
		}
		err = o.withClient(ctx, func(c *client.Client) error {
			e, err := c.Explain(ctx, p.call, p.body)
			if err != nil {
				return err
			}
			return o.printExplanation(e)
		})
		return errors.Join(err, p.close())
	}
	return cmd
}

// printExplanation shows what was decided and ends with the status that the
// call would have.
func (o *Options) printExplanation(e api.Explanation) error {
	var err error
	if o.JSON {
		err = o.printJSON(e)
	} else {
		err = o.printExplained(e)
	}
	switch {
	case err != nil || e.Allowed || e.NoVault: // without a vault there is nothing that a call could fail at
		return err
	case e.Error == nil:
		return exitStatus(api.OutcomeOf(api.Internal).Exit)
	}
	return exitStatus(api.OutcomeOf(e.Error.Code).Exit)
}

func (o *Options) printExplained(e api.Explanation) error {
	var tables []*table
	if len(e.Checks) > 0 {
		tables = append(tables, checkTable(e.Checks))
	}
	return o.printTables(append(tables, explanationTable(e)))
}

// The results of api.Check, and the marks that stand for them.
const (
	checkPassed = "passed"
	checkFailed = "failed"
)

func checkTable(checks []api.Check) *table {
	t := newTable("", "CHECK", "DETAIL")
	for _, c := range checks {
		mark := "-"
		switch c.Result {
		case checkPassed:
			mark = "ok"
		case checkFailed:
			mark = "FAILED"
		}
		detail := c.Detail
		if detail == "" && mark == "-" {
			detail = c.Result
		}
		t.row(mark, c.Name, orDash(detail))
	}
	return t
}

func explanationTable(e api.Explanation) *table {
	t := newTable()
	if p := e.Planned; p != nil {
		t.row("Call", p.Method+" "+p.URL)
		t.row("Capability", p.Capability)
		credential := p.Credential
		if e.Binding != "" {
			credential += fmt.Sprintf(" (by binding %s)", e.Binding)
		}
		t.row("Credential", orDash(credential))
	}
	if e.Set != "" {
		t.row("Set", e.Set)
	}
	switch {
	case e.Allowed:
		t.row("Result", "the call would go out")
	case e.Error == nil:
		t.row("Result", "refused")
	default:
		result := "refused, " + string(e.Error.Code)
		if e.Error.Message != "" {
			result += ": " + e.Error.Message
		}
		t.row("Result", result)
		if e.Error.Hint != "" && e.Error.Hint != e.Command {
			t.row("Hint", e.Error.Hint)
		}
	}
	if e.Instead != "" {
		t.row("Allowed by", e.Instead)
	}
	if e.Command != "" {
		t.row("Try", e.Command)
	}
	return t
}

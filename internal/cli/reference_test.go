package cli

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

//go:generate go test -run ^TestReference$ -update

var update = flag.Bool("update", false, "write docs/cli.md from the code")

// TestReference: docs/cli.md is made from the commands, and never behind them.
func TestReference(t *testing.T) {
	const path = "../../docs/cli.md"
	want := reference()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Errorf("docs/cli.md is not what the commands are; run make generate:\n%s", d)
	}
}

const referenceIntro = `# Command reference

This page is made from the program (` + "`make generate`" + `); ` + "`aivault help COMMAND`" + ` says the same.

Results go to standard output; notices and errors go to standard error. An error is one
` + "`error:`" + ` line and, where there is a next step, one ` + "`hint:`" + ` line. No command prints a secret: the
words people try for it (` + "`secrets get`, `secrets show`, `secrets reveal`, `secrets export`, `resolve`" + `)
answer ` + "`error: aivault never prints a secret`" + ` with exit status 2.

Where an id is asked for, the argument and the flag do the same; a secret may be named by id, name or
alias. ` + "`ls`" + ` stands for ` + "`list`" + ` and ` + "`rm`" + ` for ` + "`delete`" + `.

`

func reference() string {
	var b strings.Builder
	b.WriteString(referenceIntro)
	o := &Options{Environ: []string{"HOME=/nonexistent"}}
	o.init()
	root := newRoot(o)
	root.InitDefaultHelpCmd()
	root.InitDefaultHelpFlag()

	b.WriteString("## First steps\n\n")
	example(&b, root)
	b.WriteString("## Flags of every command\n\n")
	flagTable(&b, root.PersistentFlags())
	b.WriteString("## Exit statuses\n\n| exit | meaning | error codes |\n|---|---|---|\n")
	for _, row := range exitMeaning() {
		fmt.Fprintf(&b, "| %d | %s | %s |\n", row.Exit, row.Meaning, code(codesOf(row.Exit)))
	}
	b.WriteString("\nWhat each code means is in [errors.md](errors.md); the variables that are read are in\n[environment.md](environment.md).\n\n")
	var topics []*cobra.Command
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			switch {
			case c.Hidden:
			case c.IsAdditionalHelpTopicCommand():
				topics = append(topics, c)
			default:
				section(&b, c)
				walk(c)
			}
		}
	}
	walk(root)
	for _, c := range topics {
		if c.Name() == "environment" || c.Name() == "exit-codes" {
			continue // in tables above
		}
		fmt.Fprintf(&b, "## %s\n\n```\n%s\n```\n\n", c.Short, c.Long)
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func section(b *strings.Builder, c *cobra.Command) {
	fmt.Fprintf(b, "## %s\n\n", c.CommandPath())
	if c.Parent().Name() == "capability" && (c.Name() == "invoke" || c.Name() == "json" || c.Name() == "markdown") {
		fmt.Fprintf(b, "The same as [aivault %s](#aivault-%s).", c.Name(), c.Name())
		if len(c.Aliases) > 0 {
			fmt.Fprintf(b, " Other names: %s.", code(c.Aliases))
		}
		b.WriteString("\n\n")
		return
	}
	text := c.Long
	if text == "" {
		text = c.Short
	}
	if last := text[len(text)-1]; last != '.' && last != '\n' {
		text += "."
	}
	b.WriteString(text + "\n\n")
	if c.HasAvailableSubCommands() {
		if len(c.Aliases) > 0 {
			fmt.Fprintf(b, "Other names: %s.\n\n", code(c.Aliases))
		}
		for _, child := range c.Commands() {
			if !child.Hidden {
				path := child.CommandPath()
				fmt.Fprintf(b, "- [%s](#%s): %s\n", path, strings.ReplaceAll(path, " ", "-"), child.Short)
			}
		}
		b.WriteString("\n")
		return
	}
	fmt.Fprintf(b, "```\n%s\n```\n\n", c.UseLine())
	if len(c.Aliases) > 0 {
		fmt.Fprintf(b, "Other names: %s.\n\n", code(c.Aliases))
	}
	if c.Example != "" {
		example(b, c)
	}
	flags := c.NonInheritedFlags()
	if flags.HasAvailableFlags() {
		flagTable(b, flags)
	}
}

func example(b *strings.Builder, c *cobra.Command) {
	fmt.Fprintf(b, "```sh\n%s\n```\n\n", strings.ReplaceAll(strings.TrimPrefix(c.Example, "  "), "\n  ", "\n"))
}

func flagTable(b *strings.Builder, flags *pflag.FlagSet) {
	var rows []string
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name, usage := pflag.UnquoteUsage(f)
		term := "--" + f.Name
		if f.Shorthand != "" {
			term = "-" + f.Shorthand + ", " + term
		}
		if name != "" {
			term += " " + name
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" && f.DefValue != "[]" {
			usage += " (default " + f.DefValue + ")"
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s |\n", term, cell(usage)))
	})
	if len(rows) == 0 {
		return
	}
	b.WriteString("| flag | |\n|---|---|\n" + strings.Join(rows, "") + "\n")
}

func code(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return "`" + strings.Join(words, "`, `") + "`"
}

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

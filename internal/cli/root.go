package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
)

// Groups of the overview that `aivault help` prints.
const (
	groupCalls  = "calls"
	groupVault  = "vault"
	groupSystem = "system"
)

func newRoot(o *Options) *cobra.Command {
	var version bool
	root := &cobra.Command{
		Use:   "aivault",
		Short: "Call APIs with keys that the caller never sees",
		Long: "aivault keeps API keys in an encrypted vault on this machine and makes the calls itself.\n" +
			"A caller names a capability, never a URL and never a key; policy chooses the host, the\n" +
			"key is added on the wire, the answer is cleaned of it, and every call is in the audit log.",
		Example: "  aivault secrets create --name OPENAI_API_KEY\n" +
			"  aivault capability list\n" +
			"  aivault invoke openai/chat-completions --body '{\"model\":\"gpt-5.2\",\"messages\":[]}'\n" +
			"  aivault audit",
		Args: unknownCommand,
		// Runs once the flags and arguments are in order.
		PersistentPreRun: func(*cobra.Command, []string) { o.started = true },
		SilenceErrors:    true,
		SilenceUsage:     true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if version {
				return printVersion(o)
			}
			return cmd.Help()
		},
	}
	root.SetIn(o.Stdin)
	o.help = helpWriter{w: o.Out}
	root.SetOut(&o.help)
	root.SetErr(o.Err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &flagError{err} })
	root.Flags().BoolVar(&version, "version", false, "print version, commit and Go version")
	all := root.PersistentFlags()
	all.BoolVarP(&o.JSON, "json", "v", false, "print the whole result, and an error, as JSON")
	all.BoolVar(&o.JSON, "verbose", false, "the same as --json")
	all.StringVar(&o.Socket, "socket", "", "speak to the daemon at this socket `PATH`")
	root.AddGroup(
		&cobra.Group{ID: groupCalls, Title: "Calls:"},
		&cobra.Group{ID: groupVault, Title: "Vault (operator):"},
		&cobra.Group{ID: groupSystem, Title: "System:"},
	)
	help := newHelp()
	help.GroupID = groupSystem
	root.SetHelpCommand(help)
	root.CompletionOptions.DisableDefaultCmd = true
	add(root, groupCalls, newInvoke(o, "invoke"), newJSON(o), newMarkdown(o), newExplain(o), newCapability(o), newDemo(o))
	add(root, groupVault, newInit(o), newUnlock(o), newLock(o), newRotateMaster(o), newBackup(o), newRestore(o), newSecrets(o), newCredential(o), newGrant(o), newOAuth(o), newAudit(o))
	add(root, groupSystem, newStatus(o), newDoctor(o), newRegistry(o), newDaemon(o), newRestart(o), newCompletion(o), newVersion(o))
	root.AddCommand(newNever("resolve"))
	root.AddCommand(newTopics()...)
	o.completeFlags(root)
	return root
}

func add(parent *cobra.Command, group string, children ...*cobra.Command) {
	for _, c := range children {
		c.GroupID = group
	}
	parent.AddCommand(children...)
}

// newHelp is `aivault help`, which takes the words of a command or a topic.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND | TOPIC]",
		Short: "Explain a command or a topic",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			if of, _, err := cmd.Root().Find(args); err == nil {
				for _, c := range of.Commands() {
					if !c.Hidden {
						names = append(names, c.Name())
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			of, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				if of == nil || of.Hidden {
					of, rest = cmd.Root(), args
				}
				return unknownCommand(of, rest)
			}
			of.InitDefaultHelpFlag()
			return of.Help()
		},
	}
}

// newGroup is a command that only holds others.
func newGroup(use, short string, aliases ...string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Aliases: aliases, Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
}

// unknownCommand refuses the word after a command that only holds others, and
// names what it may have meant.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	word := args[0]
	if !looksLikeCommand(word) {
		// It may be anything, a secret on the wrong place included.
		return api.Errorf(api.InvalidRequest, "%s has no such command", cmd.CommandPath())
	}
	err := api.Errorf(api.InvalidRequest, "unknown command %q for %q", word, cmd.CommandPath())
	if cmd.SuggestionsMinimumDistance <= 0 {
		cmd.SuggestionsMinimumDistance = 2
	}
	if names := cmd.SuggestionsFor(word); len(names) > 0 {
		return err.WithHint("did you mean: %s %s", cmd.CommandPath(), strings.Join(names, ", "))
	}
	return err.WithHint("%s", helpFor(cmd))
}

func looksLikeCommand(word string) bool {
	return len(word) <= 24 && strings.Trim(word, "abcdefghijklmnopqrstuvwxyz-") == ""
}

// noArgs is for commands that take flags alone. The text does not repeat the
// argument, which may be a secret on the wrong place.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return api.Errorf(api.InvalidRequest, "%s takes no arguments, only flags", cmd.CommandPath())
	}
	return nil
}

const neverPrints = "aivault never prints a secret"

// newNever is a word that people try. It does not work, whatever follows it.
func newNever(word string) *cobra.Command {
	return &cobra.Command{
		Use: word, Hidden: true, DisableFlagParsing: true, Args: cobra.ArbitraryArgs,
		RunE: func(*cobra.Command, []string) error {
			return api.Errorf(api.InvalidRequest, neverPrints)
		},
	}
}

package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

// words joins what a flag takes.
func words(list []string) string {
	last := len(list) - 1
	if last < 1 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:last], ", ") + " or " + list[last]
}

// completeWords offers the values of a flag that takes a few.
func completeWords(cmd *cobra.Command, flag string, list ...string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
}

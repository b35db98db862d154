package cli

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/doctor"
	"moldable.sh/aivault/internal/term"
)

func newDoctor(o *Options) *cobra.Command {
	var attack bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what is weak or broken in this installation, and how to mend it",
		Long: "Looks at the vault's files and the directories above them, the place of its key, who can reach\n" +
			"its sockets, the clock, the audit log, broken entries, certificates and logins that end, what\n" +
			"protects the daemon's memory, and at secrets in the clear in shell startup files and the .env\n" +
			"files of the current directory. Each finding comes with the command that mends it, or says what\n" +
			"to do by hand. It changes nothing and starts no daemon. The exit status is 1 when something was found.\n\n" +
			"With --attack it attacks this program instead: it starts the daemon beside it on a throw-away\n" +
			"vault, copies this installation's configuration there with a decoy for every value, and tries\n" +
			"what products of this kind have been broken by, over that daemon's socket and against a hostile\n" +
			"upstream on this machine. It calls no real host, needs no network, and leaves nothing behind.\n" +
			"The exit status is 1 when an attack got through.",
		Example: "  aivault doctor                     # exit 1 when there is something to mend",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if attack {
				return o.attack(cmd.Context())
			}
			return o.doctor(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&attack, "attack", false, "run the attack suite against this program and configuration")
	return cmd
}

func (o *Options) doctor(ctx context.Context) error {
	cfg, err := o.clientConfig()
	if err != nil {
		return err
	}
	here, err := os.Getwd()
	if err != nil {
		here = "" // it was removed: there is nothing in it to look at
	}
	r := doctor.Run(ctx, doctor.Config{Client: cfg, Dir: here, Clock: o.Clock})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if o.JSON {
		err = o.printJSON(r)
	} else {
		err = o.print([]byte(examined(r)))
	}
	if err == nil && !r.Healthy() {
		err = exitStatus(api.OutcomeOf(api.Internal).Exit)
	}
	return err
}

// examined is a report for people: a line for each check, and below what has
// to be mended the command that does it.
func examined(r doctor.Report) string {
	var b strings.Builder
	for _, f := range r.Checks {
		fmt.Fprintf(&b, "%-8s %s: %s\n", f.Level, f.ID, term.Line(f.What))
		if f.Hint != "" {
			fmt.Fprintf(&b, "         hint: %s\n", term.Line(f.Hint))
		}
	}
	if r.Healthy() {
		b.WriteString("Nothing to mend.\n")
		return b.String()
	}
	fmt.Fprintf(&b, "%s, %s.\n", plural(r.Count(doctor.Problem), "problem", "problems"), plural(r.Count(doctor.Warning), "warning", "warnings"))
	return b.String()
}

package cli

import (
	"bytes"
	"context"
	"errors"
	"net/http"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
)

func newMarkdown(o *Options) *cobra.Command {
	var options markdownOptions
	cmd := &cobra.Command{
		Use: "markdown CAPABILITY", Aliases: []string{"md"},
		Short: "Call a capability and print the answer as headed text",
		Long: "Makes one call as invoke does, and prints its JSON as headed text, for people and language\n" +
			"models. Nothing is lost but the fields that --exclude-field names. --wrap-field and --namespace\n" +
			"put markers around what the upstream says; text of the upstream's that looks like a marker is\n" +
			"made to look different, so that it cannot end its part early. What is not JSON stands between\n" +
			"markers as it is.",
		Example: "  aivault markdown github/user-read\n" +
			"  aivault md github/issues-read --path /repos/cli/cli/issues --wrap-field body --exclude-field node_id",
		ValidArgsFunction: o.completeCapability,
	}
	f := newCallFlags(cmd)
	cmd.Flags().StringVar(&options.Namespace, "namespace", "", "put the whole between markers with this `NAME`")
	cmd.Flags().StringArrayVar(&options.ExcludeFields, "exclude-field", nil, "leave out the JSON `FIELD`, at any depth; may be repeated")
	cmd.Flags().StringArrayVar(&options.WrapFields, "wrap-field", nil, "put the value of the JSON `FIELD` between markers; may be repeated")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := options.check(); err != nil {
			return err
		}
		if o.JSON {
			return f.run(o, cmd, args, f.showJSON)
		}
		return f.run(o, cmd, args, func(ctx context.Context, o *Options, a *client.Answer) error {
			return f.showMarkdown(o, a, options)
		})
	}
	return cmd
}

// showMarkdown reads the answer whole and prints it as headed text.
func (f *callFlags) showMarkdown(o *Options, a *client.Answer, options markdownOptions) error {
	body, err := readLimited(a.Body, maxMarkdownAnswer)
	if errors.Is(err, errTooLong) {
		return api.Errorf(api.ResponseTooLarge, "the answer is longer than %d MiB, which markdown reads whole", maxMarkdownAnswer>>20).
			WithHint("use aivault invoke with -o FILE")
	}
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := renderMarkdown(&text, body, options); err != nil {
		return err
	}
	if f.writesFile() {
		if f.fail && a.Status >= http.StatusBadRequest {
			return nil // a failure leaves nothing
		}
		return writeOutput(f.output, &text)
	}
	return o.print(text.Bytes())
}

package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// commands is every command there is, with its other names and its flags, as
// the product promises them. docs/cli.md is made from the same tree, so that
// promise, help and page cannot differ.
const commands = `
audit --before-ts-ms --caller --capability --denied --follow --limit --since --until -f
audit export --before-ts-ms --caller --capability --denied --limit --output --since --until -o
audit verify --checkpoint --from --key
backup --force --passphrase --passphrase-file --passphrase-prompt
capability (capabilities cap)
capability bind --capability --credential --group-id --group-name --id --scope --uid --user --workspace-id
capability bindings
capability create --capability --credential --host --id --issues-token --method --path --provider
capability delete (rm) --capability --id
capability describe (args shape inspect) --capability --id
capability disable --capability --id
capability enable --capability --id
capability invoke (call) CALL
capability json CALL
capability list (ls) --all --provider --search
capability markdown (md) CALL --exclude-field --namespace --wrap-field
capability policy
capability policy clear --capability --id
capability policy set --allow-query --capability --deny-query --id --max-request-body-bytes --max-response-body-bytes --per-caller --rate-limit-per-minute --require-json-field --response-block
capability policy show --capability --id
capability unbind --capability --group-id --group-name --id --scope --uid --user --workspace-id
completion
credential (credentials)
credential create --allow-http --allow-port --allow-private-network --auth --auth-header --auth-query --aws-region --aws-service --ca-file --client-auth --client-certificate --external-id --github-permission --github-repository --grant-type --group-id --header-name --hmac-algorithm --hmac-encoding --hmac-key-encoding --hmac-nonce-header --hmac-sign --hmac-timestamp-header --hmac-timestamp-unit --host --id --oauth-scope --oauth-scope-separator --oauth-subject --password-template --path-prefix-template --provider --public-part --query-param --role-arn --scope --secret --secret-ref --session-name --token-body --token-endpoint --token-field --token-param --username-template --value-template --workspace-id
credential delete (rm) --id
credential list (ls)
daemon
daemon logs --follow -f --lines
daemon restart
daemon start
daemon status
daemon stop
demo
doctor --attack
explain CALL
grant (grants)
grant add --capability --expires --group-id --group-name --rate-limit-per-minute --strict-scope --uid --user --workspace-id
grant default
grant list (ls)
grant remove (rm) --id
grant reset --group-name --uid --user
help
init --env-var --file-path --passphrase --passphrase-file --provider
invoke CALL
json CALL
lock
markdown (md) CALL --exclude-field --namespace --wrap-field
oauth
oauth login --client-id --client-secret-stdin --device --force --group-id --host --no-browser --oauth-scope --port --provider --public-client --scope --workspace-id
oauth logout --credential --id --provider
oauth setup --client-id --host --oauth-scope --provider --redirect-uri
oauth status
registry
registry lint
registry list (ls)
registry show --id --provider
registry test --requests
restart
restore --accept --passphrase --passphrase-file
rotate-master --env-var --file-path --new-key --new-key-file --new-passphrase --new-passphrase-file --provider
secrets (secret)
secrets attach-group --group-id --id --name --workspace-id
secrets create --alias --group-id --name --only --scope --value --value-file --workspace-id
secrets delete (rm) --id --name
secrets detach-group --group-id --id --name --workspace-id
secrets import --dry-run --entry --env-file --group-id --scope --workspace-id
secrets list (ls)
secrets rotate --id --name --value --value-file
secrets update --alias --clear-aliases --id --name --new-name
status
unlock --for --passphrase --passphrase-file
version
`

// callFlagNames are the flags of every command that makes a call.
const callFlagNames = "--body -d --body-file --body-file-path --capability --credential --fail -f --form --group-id --header -H --id --method -X " +
	"--multipart-field --multipart-file --output -o --path --query --request --request-file --scope --stream --timeout --timeout-ms --workspace-id"

func TestCommands(t *testing.T) {
	o, _, _ := testOptions(t, nil)
	var got []string
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			if !c.Hidden && !c.IsAdditionalHelpTopicCommand() {
				got = append(got, describeCommand(c))
				walk(c)
			}
		}
	}
	root := newRoot(o)
	root.InitDefaultHelpCmd()
	walk(root)
	slices.Sort(got)
	var want []string
	for line := range strings.SplitSeq(strings.TrimSpace(commands), "\n") {
		words := strings.Fields(strings.Replace(line, "CALL", callFlagNames, 1))
		flags := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "-") })
		if flags < 0 {
			flags = len(words)
		}
		slices.Sort(words[flags:])
		want = append(want, strings.Join(words, " "))
	}
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the commands are not those promised (-promised +there):\n%s", d)
	}
}

func describeCommand(c *cobra.Command) string {
	words := []string{strings.TrimPrefix(c.CommandPath(), "aivault ")}
	if len(c.Aliases) > 0 {
		words = append(words, "("+strings.Join(c.Aliases, " ")+")")
	}
	var flags []string
	c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" {
			return
		}
		flags = append(flags, "--"+f.Name)
		if f.Shorthand != "" {
			flags = append(flags, "-"+f.Shorthand)
		}
	})
	slices.Sort(flags)
	return strings.Join(append(words, flags...), " ")
}

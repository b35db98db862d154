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
		{[]string{"secrets", "create", "--name", "A", "--scope", "workspace"}, "error: --scope workspace needs --workspace-id\nhint: aivault help secrets create\n"},
		{[]string{"secrets", "create", "--name", "A", "--scope", "group", "--workspace-id", "w"}, "error: --scope group needs --workspace-id and --group-id\nhint: aivault help secrets create\n"},
		{[]string{"secrets", "create", "--name", "A", "--scope", "global", "--workspace-id", "w"}, "error: --scope global and --workspace-id exclude each other\nhint: aivault help secrets create\n"},
		{[]string{"secrets", "create", "--name", "A", "--scope", "global", "--group-id", "g"}, "error: --scope global and --group-id exclude each other\nhint: aivault help secrets create\n"},
		{[]string{"secrets", "create", "--name", "A", "--scope", "workspace", "--workspace-id", "w", "--group-id", "g"}, "error: --scope workspace and --group-id exclude each other: a group's scope is --scope group\nhint: aivault help secrets create\n"},
		{[]string{"secrets", "create", "--name", "A", "--scope", "tenant"}, "error: --scope cannot be \"tenant\": it takes global, workspace or group\nhint: aivault help secrets create\n"},
		{[]string{"secrets", "create", "--name", "A", "--scope", ""}, "error: --scope cannot be \"\": it takes global, workspace or group\nhint: aivault help secrets create\n"},
		{[]string{"secrets", "create", "--name", "A", "--scope", "group:w:g"}, "error: --scope cannot be \"group:w:g\": it takes global, workspace or group\nhint: in its place write --workspace-id w --group-id g\n"},
		{[]string{"secrets", "create", "--name", "A", "--group-id", "g"}, "error: --group-id needs --workspace-id: a group belongs to a workspace\nhint: aivault help secrets create\n"},
		{[]string{"secrets", "create", "--name", "A", "--workspace-id", ""}, "error: --workspace-id is empty\nhint: aivault help secrets create\n"},
		{[]string{"secrets", "create", "--name", "A", "--workspace-id", "A B"}, "error: --workspace-id cannot be \"A B\": it has 1 to 64 of a-z, 0-9, '-', '_' and '.'\nhint: aivault help secrets create\n"},
		{[]string{"secrets", "create", "--name", "A", "--only", ""}, "error: --only is empty\nhint: aivault help secrets create\n"},
		{[]string{"secrets", "attach-group", "A", "--group-id", "g"}, "error: a group is named by --workspace-id and --group-id: give both\nhint: aivault help secrets attach-group\n"},
		{[]string{"secrets", "attach-group", "--group-id", "g"}, "error: no secret given\nhint: aivault help secrets attach-group\n"},
		{[]string{"secrets", "detach-group", "A", "--workspace-id", "w"}, "error: a group is named by --workspace-id and --group-id: give both\nhint: aivault help secrets detach-group\n"},
		{[]string{"secrets", "detach-group", "A", "--workspace-id", "w", "--group-id", ""}, "error: --group-id is empty\nhint: aivault help secrets detach-group\n"},
		{[]string{"secrets", "import"}, "error: nothing to import: give --entry or --env-file\nhint: aivault help secrets import\n"},
		{[]string{"secrets", "import", "--entry", "A=1", "--env-file", "x"}, "error: --entry and --env-file exclude each other\nhint: aivault help secrets import\n"},
		{[]string{"secrets", "import", "--entry", secretText}, "error: --entry takes NAME=VALUE\nhint: aivault help secrets import\n"},
		{[]string{"secrets", "import", "--entry", "A=1", "--entry", "A=2"}, "error: --entry gives \"A\" twice\nhint: aivault help secrets import\n"},
		{[]string{"secrets", "import", secretText}, "error: aivault secrets import takes no arguments, only flags\nhint: aivault help secrets import\n"},
		{[]string{"secrets", "import", "--entry", "A=1", "--scope", "workspace"}, "error: --scope workspace needs --workspace-id\nhint: aivault help secrets import\n"},
		{[]string{"grant", "add", "--uid", "4242", "--capability", "a", "b"}, "error: aivault grant add takes no arguments, only flags; a pattern with * is quoted: --capability 'openai/*'\nhint: aivault help grant add\n"},
		{[]string{"capability", "bind", "a", "b", "--credential", "c"}, "error: too many arguments: give one pattern, in quotes where it has a *\nhint: aivault help capability bind\n"},
		{[]string{"capability", "enable"}, "error: no pattern given\nhint: aivault help capability enable\n"},
		{[]string{"capability", "disable", "a/b", ""}, "error: a pattern is empty\nhint: aivault help capability disable\n"},
		{[]string{"capability", "policy", "set", "--rate-limit-per-minute", "5"}, "error: no capability given\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b"}, "error: nothing to change: give a limit\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--per-caller"}, "error: --per-caller belongs to --rate-limit-per-minute\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--rate-limit-per-minute", "0"}, "error: --rate-limit-per-minute cannot be \"0\": it takes a number from 1 up, or none to lift the limit\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--rate-limit-per-minute", "-1"}, "error: --rate-limit-per-minute cannot be \"-1\": it takes a number from 1 up, or none to lift the limit\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--rate-limit-per-minute", ""}, "error: --rate-limit-per-minute cannot be \"\": it takes a number from 1 up, or none to lift the limit\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--rate-limit-per-minute", "1.5"}, "error: --rate-limit-per-minute cannot be \"1.5\": it takes a number from 1 up, or none to lift the limit\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--rate-limit-per-minute", "many"}, "error: --rate-limit-per-minute cannot be \"many\": it takes a number from 1 up, or none to lift the limit\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--rate-limit-per-minute", "99999999999999999999"}, "error: --rate-limit-per-minute cannot be \"99999999999999999999\": it takes a number from 1 up, or none to lift the limit\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--rate-limit-per-minute", "None"}, "error: --rate-limit-per-minute cannot be \"None\": it takes a number from 1 up, or none to lift the limit\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--max-request-body-bytes", "0"}, "error: --max-request-body-bytes cannot be \"0\": it takes a number from 1 up, or none to lift the limit\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--max-request-body-bytes", "-1"}, "error: --max-request-body-bytes cannot be \"-1\": it takes a number from 1 up, or none to lift the limit\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--max-request-body-bytes", ""}, "error: --max-request-body-bytes cannot be \"\": it takes a number from 1 up, or none to lift the limit\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--max-request-body-bytes", "1.5"}, "error: --max-request-body-bytes cannot be \"1.5\": it takes a number from 1 up, or none to lift the limit\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--max-request-body-bytes", "many"}, "error: --max-request-body-bytes cannot be \"many\": it takes a number from 1 up, or none to lift the limit\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--max-request-body-bytes", "99999999999999999999"}, "error: --max-request-body-bytes cannot be \"99999999999999999999\": it takes a number from 1 up, or none to lift the limit\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--max-request-body-bytes", "None"}, "error: --max-request-body-bytes cannot be \"None\": it takes a number from 1 up, or none to lift the limit\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--max-response-body-bytes", "0"}, "error: --max-response-body-bytes cannot be \"0\": it takes a number from 1 up, or none to lift the limit\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--max-response-body-bytes", "-1"}, "error: --max-response-body-bytes cannot be \"-1\": it takes a number from 1 up, or none to lift the limit\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--max-response-body-bytes", ""}, "error: --max-response-body-bytes cannot be \"\": it takes a number from 1 up, or none to lift the limit\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--max-response-body-bytes", "1.5"}, "error: --max-response-body-bytes cannot be \"1.5\": it takes a number from 1 up, or none to lift the limit\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--max-response-body-bytes", "many"}, "error: --max-response-body-bytes cannot be \"many\": it takes a number from 1 up, or none to lift the limit\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--max-response-body-bytes", "99999999999999999999"}, "error: --max-response-body-bytes cannot be \"99999999999999999999\": it takes a number from 1 up, or none to lift the limit\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--max-response-body-bytes", "None"}, "error: --max-response-body-bytes cannot be \"None\": it takes a number from 1 up, or none to lift the limit\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--response-block", ""}, "error: --response-block is empty\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--response-block", "none", "--response-block", "x"}, "error: --response-block none lifts the limit and stands alone\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--allow-query", ""}, "error: --allow-query is empty\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--allow-query", "none", "--allow-query", "x"}, "error: --allow-query none lifts the limit and stands alone\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--deny-query", ""}, "error: --deny-query is empty\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--deny-query", "none", "--deny-query", "x"}, "error: --deny-query none lifts the limit and stands alone\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--require-json-field", "model"}, "error: --require-json-field takes /POINTER=VALUE, or /POINTER=V1|V2\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--require-json-field", "model=x"}, "error: --require-json-field takes /POINTER=VALUE, or /POINTER=V1|V2\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--require-json-field", "/model"}, "error: --require-json-field takes /POINTER=VALUE, or /POINTER=V1|V2\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--require-json-field", "/model="}, "error: --require-json-field takes /POINTER=VALUE, or /POINTER=V1|V2\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--require-json-field", "=x"}, "error: --require-json-field takes /POINTER=VALUE, or /POINTER=V1|V2\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "set", "--capability", "a/b", "--require-json-field", "/m=a", "--require-json-field", "/m=b"}, "error: --require-json-field gives \"/m\" twice: name its values with | between them\nhint: aivault help capability policy set\n"},
		{[]string{"capability", "policy", "clear"}, "error: no capability given\nhint: aivault help capability policy clear\n"},
		{[]string{"capability", "policy", "show", "a/b", "--id", "a/c"}, "error: the capability is given twice, as \"a/b\" and as \"a/c\"\nhint: aivault help capability policy show\n"},
		{[]string{"capability", "bind", "a/b"}, "error: no credential given: name one with --credential\nhint: aivault help capability bind\n"},
		{[]string{"capability", "bind", "--credential", "c"}, "error: no pattern given\nhint: aivault help capability bind\n"},
		{[]string{"capability", "bind", "a/b", "--credential", "c", "--user", "u", "--uid", "5"}, "error: --user and --uid exclude each other\nhint: aivault help capability bind\n"},
		{[]string{"capability", "bind", "a/b", "--credential", "c", "--user", ""}, "error: --user is empty\nhint: aivault help capability bind\n"},
		{[]string{"capability", "bind", "a/b", "--credential", "c", "--group-name", ""}, "error: --group-name is empty\nhint: aivault help capability bind\n"},
		{[]string{"capability", "bind", "a/b", "--credential", "c", "--uid", "-1"}, "error: flag --uid cannot be -1: it takes a whole number\nhint: aivault help capability bind\n"},
		{[]string{"capability", "bind", "a/b", "--credential", "c", "--scope", "group"}, "error: --scope group needs --workspace-id and --group-id\nhint: aivault help capability bind\n"},
		{[]string{"capability", "unbind"}, "error: no binding given\nhint: aivault help capability unbind\n"},
		{[]string{"capability", "unbind", "b-1", "--user", "u"}, "error: a binding's id says it all: leave --user out\nhint: aivault help capability unbind\n"},
		{[]string{"capability", "unbind", "--id", "b-1", "--scope", "global"}, "error: a binding's id says it all: leave --scope out\nhint: aivault help capability unbind\n"},
		{[]string{"capability", "bindings", "x"}, "error: aivault capability bindings takes no arguments, only flags\nhint: aivault help capability bindings\n"},
		{[]string{"grant", "add"}, "error: for whom? give --user, --uid or --group-name\nhint: aivault help grant add\n"},
		{[]string{"grant", "add", "--user", "u", "--group-name", "g"}, "error: --user and --group-name exclude each other\nhint: aivault help grant add\n"},
		{[]string{"grant", "add", "--uid", "1001", "--capability", ""}, "error: --capability is empty\nhint: aivault help grant add\n"},
		{[]string{"grant", "add", "--uid", "1001", "--strict-scope"}, "error: --strict-scope needs --workspace-id\nhint: aivault help grant add\n"},
		{[]string{"grant", "add", "--uid", "1001", "--group-id", "g"}, "error: --group-id needs --workspace-id: a group belongs to a workspace\nhint: aivault help grant add\n"},
		{[]string{"grant", "add", "--uid", "1001", "--rate-limit-per-minute", "0"}, "error: --rate-limit-per-minute must be 1 or more\nhint: aivault help grant add\n"},
		{[]string{"grant", "add", "--uid", "1001", "--rate-limit-per-minute", "-1"}, "error: --rate-limit-per-minute must be 1 or more\nhint: aivault help grant add\n"},
		{[]string{"grant", "add", "--uid", "1001", "--expires", "0s"}, "error: --expires must be a second or more\nhint: aivault help grant add\n"},
		{[]string{"grant", "add", "--uid", "1001", "--expires", "-8h"}, "error: --expires must be a second or more\nhint: aivault help grant add\n"},
		{[]string{"grant", "add", "--uid", "1001", "--expires", "tomorrow"}, "error: flag --expires cannot be tomorrow: it takes a duration, such as 30s or 8h\nhint: aivault help grant add\n"},
		{[]string{"grant", "remove"}, "error: no grant given\nhint: aivault help grant remove\n"},
		{[]string{"grant", "reset"}, "error: for whom? give --user, --uid or --group-name\nhint: aivault help grant reset\n"},
		{[]string{"grant", "default"}, "error: the default is allow or deny\nhint: aivault help grant default\n"},
		{[]string{"grant", "default", "perhaps"}, "error: the default is allow or deny\nhint: aivault help grant default\n"},
		{[]string{"explain"}, "error: no capability given\nhint: aivault help explain\n"},
		{[]string{"md"}, "error: no capability given\nhint: aivault help markdown\n"},
		{[]string{"capability", "md"}, "error: no capability given\nhint: aivault help capability markdown\n"},
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
		{[]string{"credential", "create", "a", "--secret", "A", "--header-name", "X"}, "error: --header-name belongs to --auth header, hmac, oauth2 or token-exchange\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "basic", "--value-template", "X"}, "error: --value-template belongs to --auth header, query, hmac, oauth2 or token-exchange\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "multi-header", "--auth-header", "X"}, "error: --auth-header takes NAME=VALUE\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "basic", "--hmac-sign", "body"}, "error: --hmac-sign belongs to --auth hmac\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "hmac"}, "error: --auth hmac needs --hmac-algorithm\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "oauth2"}, "error: --auth oauth2 needs --grant-type\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "oauth2", "--grant-type", "refresh_token"}, "error: --auth oauth2 needs --token-endpoint\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "oauth2", "--grant-type", "password", "--token-endpoint", "https://x.test/t"}, "error: --grant-type cannot be \"password\": it takes refresh_token, client_credentials, account_credentials, authorization_code, jwt-bearer or github-app\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "oauth2", "--grant-type", "jwt-bearer", "--token-endpoint", "https://x.test/t", "--client-auth", "both"}, "error: --client-auth cannot be \"both\": it takes body, basic or none\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "oauth2", "--grant-type", "jwt-bearer", "--token-endpoint", "https://x.test/t", "--token-body", "xml"}, "error: --token-body cannot be \"xml\": it takes form or json\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "token-exchange", "--token-endpoint", "https://x.test/t"}, "error: --auth token-exchange needs --token-param\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "token-exchange", "--token-endpoint", "https://x.test/t", "--token-param", "a=1", "--token-param", "a=2", "--host", "x.test"}, "error: --token-param a is given twice\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "token-exchange", "--token-endpoint", "https://x.test/t", "--token-param", "a"}, "error: --token-param takes NAME=VALUE\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "header", "--oauth-scope", "read"}, "error: --oauth-scope belongs to --auth oauth2\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--grant-type", "refresh_token"}, "error: --grant-type belongs to --auth oauth2\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--token-field", "token", "--auth", "oauth2"}, "error: --token-field belongs to --auth token-exchange\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--github-permission", "contents"}, "error: --github-permission takes NAME=VALUE\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--github-permission", "contents=read", "--github-permission", "contents=write"}, "error: --github-permission contents is given twice\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "hmac", "--hmac-algorithm", "md5"}, "error: --hmac-algorithm cannot be \"md5\": it takes sha256, sha384 or sha512\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "hmac", "--hmac-algorithm", "sha256"}, "error: --auth hmac needs --header-name, the header that the signature goes to\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "hmac", "--hmac-algorithm", "sha256", "--header-name", "X", "--hmac-timestamp-unit", "ms"}, "error: --hmac-timestamp-unit needs --hmac-timestamp-header\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--client-certificate"}, "error: --client-certificate stands beside --auth KIND\nhint: for a certificate alone: --auth mtls\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "mtls", "--client-certificate"}, "error: --client-certificate stands beside another --auth than mtls, which has a certificate already\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "bearer"}, "error: --auth cannot be \"bearer\": it takes header, query, path, basic, multi-header, multi-query, aws-sigv4, hmac, mtls, oauth2 or token-exchange\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--auth", "header", "--aws-region", "eu-west-1"}, "error: --aws-region belongs to --auth aws-sigv4\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--aws-service", "s3"}, "error: --aws-service belongs to --auth aws-sigv4\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--external-id", "x"}, "error: --external-id needs --role-arn\nhint: aivault help credential create\n"},
		{[]string{"credential", "create", "a", "--secret", "A", "--session-name", "x"}, "error: --session-name needs --role-arn\nhint: aivault help credential create\n"},
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

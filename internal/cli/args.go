package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
)

// idArg is an id that may be given as the argument or by a flag.
type idArg struct {
	noun  string
	flags []string
	given []string
	value *entry // where a second argument, a value by mistake, belongs
}

// newIDArg adds the flags to cmd, which must take any number of arguments.
func newIDArg(cmd *cobra.Command, noun string, flags ...string) *idArg {
	a := &idArg{noun: noun, flags: flags, given: make([]string, len(flags))}
	for i, name := range flags {
		usage := "the `" + strings.ToUpper(noun) + "`, in place of the argument"
		cmd.Flags().StringVar(&a.given[i], name, "", usage)
	}
	cmd.Args = cobra.ArbitraryArgs
	return a
}

// get returns the id; none, several, or different ones are usage errors.
func (a *idArg) get(args []string) (string, error) {
	if len(args) > 1 && a.value != nil {
		return "", api.Errorf(api.InvalidRequest, "too many arguments: give one %s; a value comes from the prompt, a pipe or --%s", a.noun, a.value.fileFlag)
	}
	if len(args) > 1 {
		return "", api.Errorf(api.InvalidRequest, "too many arguments: give one %s", a.noun)
	}
	id := ""
	for _, v := range append(append([]string(nil), args...), a.given...) {
		switch {
		case v == "":
		case id != "" && id != v:
			return "", api.Errorf(api.InvalidRequest, "the %s is given twice, as %q and as %q", a.noun, id, v)
		default:
			id = v
		}
	}
	if id == "" {
		return "", api.Errorf(api.InvalidRequest, "no %s given", a.noun)
	}
	return id, nil
}

// splitPair splits NAME=VALUE.
func splitPair(flag, pair string) (name, value string, err error) {
	name, value, ok := strings.Cut(pair, "=")
	if !ok || name == "" {
		form := "NAME=VALUE"
		if flag == "multipart-file" {
			form = "FIELD=PATH"
		}
		return "", "", api.Errorf(api.InvalidRequest, "--%s takes %s", flag, form)
	}
	return name, value, nil
}

// scopeFlag is --scope, which names whose a secret or credential is.
func scopeFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("scope", "global", "whose it is, a `SCOPE`: global")
}

func checkScope(scope string) error {
	if scope != "global" {
		return api.Errorf(api.InvalidRequest, "--scope cannot be %q: it takes global", scope)
	}
	return nil
}

// oneOf refuses flags that exclude each other.
func oneOf(cmd *cobra.Command, names ...string) error {
	var given []string
	for _, n := range names {
		if cmd.Flags().Changed(n) {
			given = append(given, "--"+n)
		}
	}
	if len(given) > 1 {
		return api.Errorf(api.InvalidRequest, "%s exclude each other", strings.Join(given, " and "))
	}
	return nil
}

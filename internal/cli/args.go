package cli

import (
	"slices"
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

// used says whether one of the flags was given.
func (a *idArg) used(cmd *cobra.Command) bool {
	return slices.ContainsFunc(a.flags, cmd.Flags().Changed)
}

// get returns the id; none, several, or different ones are usage errors.
func (a *idArg) get(args []string) (string, error) {
	if len(args) > 1 && a.value != nil {
		return "", api.Errorf(api.InvalidRequest, "too many arguments: give one %s; a value comes from the prompt, a pipe or --%s", a.noun, a.value.fileFlag)
	}
	if len(args) > 1 {
		what := a.noun
		if what == "pattern" { // of which the shell makes file names
			what += ", in quotes where it has a *"
		}
		return "", api.Errorf(api.InvalidRequest, "too many arguments: give one %s", what)
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

// idsArg is one or more ids or patterns, as arguments and by flags.
type idsArg struct {
	noun  string
	flags []string
	given [][]string
}

// newIDsArg adds the flags to cmd, which must take any number of arguments.
func newIDsArg(cmd *cobra.Command, noun string, flags ...string) *idsArg {
	a := &idsArg{noun: noun, flags: flags, given: make([][]string, len(flags))}
	for i, name := range flags {
		usage := "a `" + strings.ToUpper(noun) + "`, in place of an argument; may be repeated"
		cmd.Flags().StringArrayVar(&a.given[i], name, nil, usage)
	}
	cmd.Args = cobra.ArbitraryArgs
	return a
}

// get returns what was given, each once, in order.
func (a *idsArg) get(args []string) ([]string, error) {
	var ids []string
	for _, v := range slices.Concat(append([][]string{args}, a.given...)...) {
		switch {
		case v == "":
			return nil, api.Errorf(api.InvalidRequest, "a %s is empty", a.noun)
		case !slices.Contains(ids, v):
			ids = append(ids, v)
		}
	}
	if len(ids) == 0 {
		return nil, api.Errorf(api.InvalidRequest, "no %s given", a.noun)
	}
	return ids, nil
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

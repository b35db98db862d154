package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/auth"
	"moldable.sh/aivault/internal/lint"
	"moldable.sh/aivault/internal/registry"
)

// maxRegistryFile bounds a provider file and the requests beside it.
const maxRegistryFile = 4 << 20

func newRegistryLint(o *Options) *cobra.Command {
	return &cobra.Command{
		Use:   "lint FILE",
		Short: "Judge a provider file as those that are built in are judged",
		Long: "Reads a provider file (docs/registry/format.md) and names what would keep it out of the registry:\n" +
			"the first thing that the format does not allow, or everything of the rest: names that another\n" +
			"provider has, rules that no request can match, examples that its own rules refuse, capabilities\n" +
			"that admit more than their access says, and those that overlap and do not say so. - is standard\n" +
			"input. The exit status is 1 when something was found.",
		Example: "  aivault registry lint acme.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := oneFile(args)
			if err != nil {
				return err
			}
			p, problems, err := o.lint(cmd.Context(), path)
			if err != nil {
				return err
			}
			return o.printLint(p, problems)
		},
		Args: cobra.ArbitraryArgs,
	}
}

// oneFile is the one file that a command works with. The text does not repeat
// the arguments.
func oneFile(args []string) (string, error) {
	if len(args) != 1 || args[0] == "" {
		return "", api.Errorf(api.InvalidRequest, "give one file")
	}
	return args[0], nil
}

func (o *Options) lint(ctx context.Context, path string) (*registry.Provider, []lint.Problem, error) {
	reg, err := registry.Load()
	if err != nil {
		return nil, nil, err
	}
	file, err := o.readAll(ctx, "", path, maxRegistryFile)
	if err != nil {
		return nil, nil, err
	}
	var p *registry.Provider
	var problems []lint.Problem
	if err := untilDone(ctx, func() {
		p, problems = lint.File(file, reg)
		problems = append(problems, lintLogins(p)...)
	}); err != nil {
		return nil, nil, err
	}
	return p, problems, nil
}

// lintLogins judges each way to authenticate as one of a custom credential is
// judged.
func lintLogins(p *registry.Provider) []lint.Problem {
	if p == nil {
		return nil
	}
	var found []lint.Problem
	for i := range p.Logins {
		l := &p.Logins[i]
		if l.NotYet == l.Auth.Type {
			continue
		}
		if _, err := auth.New(l.Spec()); err != nil {
			found = append(found, lint.Problem{Where: "login " + l.ID, Why: api.AsError(err).Message})
		}
	}
	return found
}

// untilDone runs what asks nothing of a context, and no longer than it lasts:
// a file that takes long to judge can be broken off. What f wrote is not to be
// read after an error.
func untilDone(ctx context.Context, f func()) error {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-done:
		return nil
	}
}

// linted is what lint prints as JSON.
type linted struct {
	Provider     string         `json:"provider,omitzero"`
	Capabilities int            `json:"capabilities"`
	OK           bool           `json:"ok"`
	Problems     []lint.Problem `json:"problems"`
}

func (o *Options) printLint(p *registry.Provider, problems []lint.Problem) error {
	result := linted{OK: len(problems) == 0, Problems: append([]lint.Problem{}, problems...)}
	if p != nil {
		result.Provider, result.Capabilities = p.ID, len(p.Capabilities)
	}
	var err error
	switch {
	case o.JSON:
		err = o.printJSON(result)
	case result.OK:
		t := newTable()
		t.row(p.ID, plural(len(p.Capabilities), "capability", "capabilities"), "nothing found")
		err = o.printTable(t)
	default:
		t := newTable("WHERE", "PROBLEM")
		for _, one := range problems {
			t.row(one.Where, one.Why)
		}
		err = o.printTable(t)
	}
	if err != nil || result.OK {
		return err
	}
	return exitStatus(api.OutcomeOf(api.Internal).Exit)
}

func newRegistryTest(o *Options) *cobra.Command {
	var requests string
	cmd := &cobra.Command{
		Use:   "test FILE",
		Short: "Hold requests against a provider file: which capabilities admit them",
		Long: "Judges the file as lint does, and then every request of the .txt beside it (or beside it in testdata;\n" +
			"--requests names another): allow and admin lines name exactly the capabilities that admit a\n" +
			"request, refuse lines none. Each goes through the code that judges real calls, and nowhere else.\n" +
			"The exit status is 1 when a line is wrong.",
		Example: "  aivault registry test acme.json",
		Args:    cobra.ArbitraryArgs,
	}
	cmd.Flags().StringVar(&requests, "requests", "", "the requests are in this `FILE`")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path, err := oneFile(args)
		if err != nil {
			return err
		}
		if path == "-" && requests == "-" {
			return api.Errorf(api.InvalidRequest, "the file and --requests cannot both read standard input")
		}
		p, problems, err := o.lint(cmd.Context(), path)
		if err != nil {
			return err
		}
		if len(problems) > 0 {
			return o.printLint(p, problems)
		}
		text, err := o.requests(cmd.Context(), path, requests)
		if err != nil {
			return err
		}
		reg, err := registry.Load()
		if err != nil {
			return err
		}
		var results []lint.Result
		if broken := untilDone(cmd.Context(), func() { results, err = lint.Requests(p, reg, string(text)) }); broken != nil {
			return broken
		}
		switch {
		case err == nil && len(results) == 0:
			return api.Errorf(api.InvalidRequest, "there is no request to hold against %s", p.ID)
		case err != nil:
			return api.Errorf(api.InvalidRequest, "the requests: %w", err)
		}
		return o.printTested(p, results)
	}
	return cmd
}

// requests reads the requests of a provider file.
func (o *Options) requests(ctx context.Context, path, named string) ([]byte, error) {
	if named != "" {
		return o.readAll(ctx, "requests", named, maxRegistryFile)
	}
	if path == "-" {
		return nil, api.Errorf(api.InvalidRequest, "standard input has nothing beside it: name the requests with --requests FILE")
	}
	base := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)) + ".txt"
	beside := filepath.Join(filepath.Dir(path), base)
	text, err := o.readAll(ctx, "", beside, maxRegistryFile)
	if errors.Is(err, fs.ErrNotExist) {
		if text, within := o.readAll(ctx, "", filepath.Join(filepath.Dir(path), "testdata", base), maxRegistryFile); within == nil {
			return text, nil
		}
	}
	return text, err
}

// tested is what test prints as JSON.
type tested struct {
	Provider string        `json:"provider"`
	OK       bool          `json:"ok"`
	Requests []lint.Result `json:"requests"`
}

func (o *Options) printTested(p *registry.Provider, results []lint.Result) error {
	result := tested{Provider: p.ID, OK: true, Requests: append([]lint.Result{}, results...)}
	t := newTable("LINE", "", "REQUEST", "EXPECTED", "WHY")
	for _, r := range results {
		mark := "ok"
		if !r.OK {
			mark, result.OK = "WRONG", false
		}
		t.row(fmt.Sprint(r.Line), mark, r.Method+" "+r.Host+r.Path, strings.TrimSpace(r.Verb+" "+strings.Join(r.Want, " ")), orDash(r.Why))
	}
	var err error
	if o.JSON {
		err = o.printJSON(result)
	} else {
		err = o.printTable(t)
	}
	if err != nil || result.OK {
		return err
	}
	return exitStatus(api.OutcomeOf(api.Internal).Exit)
}

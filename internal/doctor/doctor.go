// Package doctor looks at an installation as a careful operator would, and
// says of each thing whether it is in order and, where it is not, which
// command mends it.
//
// It looks with the rights of who runs it, at files and sockets itself and at
// what the daemon's status tells. It makes no vault, changes nothing, needs no
// daemon, and its findings name secrets but never hold one.
package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/vault"
)

// A Level says how a check ended.
type Level string

// Levels.
const (
	OK      Level = "ok"
	Skipped Level = "skipped" // it could not be looked at
	Warning Level = "warning" // weaker than it could be
	Problem Level = "problem" // broken, or open to others
)

// A Finding is what one check has to say. Its texts may hold names that others
// chose: whoever prints them to a terminal has to make them fit.
type Finding struct {
	ID    string `json:"id"` // of the check, e.g. audit.chain
	Level Level  `json:"level"`
	What  string `json:"what"`
	Hint  string `json:"hint,omitzero"` // the command that mends it, or what to do by hand
}

// A Report is all that was found, in the order in which it was looked at.
type Report struct {
	Checks []Finding `json:"checks"`
}

// Healthy says whether there is nothing to mend.
func (r Report) Healthy() bool { return r.Count(Warning)+r.Count(Problem) == 0 }

// Count is how many findings have this level.
func (r Report) Count(l Level) int {
	n := 0
	for _, f := range r.Checks {
		if f.Level == l {
			n++
		}
	}
	return n
}

// Config says whose installation to look at.
type Config struct {
	Client client.Config // nobody is asked for anything, and no daemon is started
	Dir    string        // the current directory, whose .env files are looked at; "": none
	Clock  func() time.Time

	groupFile string // tests: instead of /etc/group
}

// exam is one look.
type exam struct {
	cfg    Config
	report Report
	client *client.Client // nil where nobody answers
	status api.Status     // of whoever answers
	dir    string         // of the vault; "" where it is not this user's to look at
}

// Run looks at everything.
func Run(ctx context.Context, cfg Config) Report {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.groupFile == "" {
		cfg.groupFile = "/etc/group"
	}
	e := &exam{cfg: cfg, report: Report{Checks: []Finding{}}}
	e.ask(ctx)
	if e.client != nil {
		defer e.client.Close()
	}
	e.daemon()
	e.process()
	e.memoryLimit()
	e.files()
	e.key()
	e.clock()
	e.audit()
	e.entries()
	e.logins(ctx)
	e.sockets()
	e.grants(ctx)
	e.visible(ctx)
	return e.report
}

func (e *exam) add(id string, level Level, what, hint string) {
	e.report.Checks = append(e.report.Checks, Finding{id, level, what, hint})
}

// ask finds whoever can tell about the vault: its daemon, where one runs, and
// else this process.
func (e *exam) ask(ctx context.Context) {
	c, err := client.ConnectAsIs(ctx, e.cfg.Client)
	if err == nil {
		e.client = c
		e.status, err = c.Status(ctx)
	}
	if err != nil {
		e.add("daemon", Problem, api.AsError(err).Message, orElse(api.AsError(err).Hint, "aivault daemon status"))
	}
	e.dir = e.cfg.Client.Env.Dir
	if e.status.Caller.Operator && e.status.Vault.Dir != "" {
		e.dir = e.status.Vault.Dir
	}
	if _, err := os.Lstat(e.dir); errors.Is(err, fs.ErrNotExist) {
		e.dir = ""
	}
}

// operator says whether who answers tells all that there is to know.
func (e *exam) operator() bool { return e.status.Caller.Operator }

// open says whether the vault is, so that its entries can be told.
func (e *exam) open() bool { return e.operator() && e.status.Vault.State == vault.Unlocked }

// unseen says why what is in the vault is not looked at.
func (e *exam) unseen() string {
	switch {
	case e.client == nil:
		return "nobody answers"
	case !e.operator():
		return "only the operator is told"
	case e.status.Vault.State == vault.None:
		return "there is no vault yet"
	}
	return "the vault is " + e.status.Vault.State
}

func orElse(hint, other string) string {
	if hint == "" {
		return other
	}
	return hint
}

// inVault is a path below the vault's directory.
func (e *exam) inVault(name string) string { return filepath.Join(e.dir, name) }

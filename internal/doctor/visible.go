package doctor

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unicode"

	"moldable.sh/aivault/internal/durable"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/vault"
)

// startup are the files below a home in which shells and sessions find what
// they put into the environment of every program.
func startup() []string {
	return []string{
		".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".bash_aliases", ".profile", ".zshrc", ".zshenv", ".zprofile", ".zlogin",
		".kshrc", ".mkshrc", ".cshrc", ".tcshrc", ".login", ".xprofile", ".xsessionrc", ".pam_environment", ".env", ".envrc",
		".config/fish/config.fish", ".config/environment.d/*.conf", ".config/fish/conf.d/*.fish", ".zshrc.local", ".bashrc.local",
	}
}

// beside are the files of a project that hold its environment.
func beside() []string { return []string{".env", ".env.*", "*.env", ".envrc"} }

// examples are kept beside such a file to show its form.
func examples() []string {
	return []string{".example", ".sample", ".template", ".dist", ".defaults"}
}

const (
	maxVisibleFiles = 64
	maxVisibleSize  = 1 << 20
)

// A sighting is a line that sets a variable to what may be a secret.
type sighting struct {
	path  string
	line  int
	name  string
	dot   bool // where import reads it
	alone bool // nothing else is lost with the line
}

// visible says where secrets are in the clear, by the names that the registry
// claims and those that are in the vault.
func (e *exam) visible(ctx context.Context) {
	const id = "secrets.visible"
	reg, err := registry.Load()
	if err != nil {
		e.add(id, Problem, "the registry cannot be read", "aivault registry list")
		return
	}
	stored := e.stored(ctx)
	secret := func(name string) bool {
		if stored[registry.FoldName(name)] {
			return true
		}
		claim, ok := reg.Claims(name)
		return ok && !claim.Secret.Public
	}
	files := e.readable()
	found, how := 0, forms()
	for _, path := range files {
		for _, s := range sightings(path, how, secret) {
			if found++; found > maxFindings {
				continue
			}
			what := fmt.Sprintf("%s:%d sets %s for every program to read", s.path, s.line, s.name)
			// The line may be the only place that has the value: it is taken away
			// when the vault is known to have it.
			hint := "aivault secrets create --name " + s.name
			switch {
			case stored[registry.FoldName(s.name)]:
				hint = s.remove()
			case e.client != nil && !e.operator():
				what += "; its operator can store it in the vault"
				hint = "when it is stored (aivault secrets create --name " + s.name + "): " + s.remove()
			case e.client != nil && e.status.Vault.State == vault.Locked:
				what += "; whether the vault has it, it tells when it is unlocked"
				hint = "aivault unlock"
			case s.dot:
				hint = "aivault secrets import --env-file " + durable.ShellQuote(s.path)
			}
			e.add(id, Warning, what, hint)
		}
	}
	switch {
	case found > maxFindings:
		e.add(id, Warning, fmt.Sprintf("and %d more", found-maxFindings), "aivault doctor")
	case found == 0:
		e.add(id, OK, fmt.Sprintf("no secret is set in the %d files that shells and projects read here", len(files)), "")
	}
}

// stored are the names and aliases of what is in the vault, folded.
func (e *exam) stored(ctx context.Context) map[string]bool {
	names := map[string]bool{}
	if !e.open() {
		return names
	}
	list, err := e.client.Secrets(ctx)
	if err != nil {
		return names
	}
	for _, s := range list.Secrets {
		names[registry.FoldName(s.Name)] = true
		for _, a := range s.Aliases {
			names[registry.FoldName(a)] = true
		}
	}
	return names
}

// readable lists the files to look into.
func (e *exam) readable() []string {
	var all []string
	add := func(dir string, patterns []string) {
		for _, p := range patterns {
			// Not filepath.Glob: the directory's name is no pattern.
			names, err := matching(dir, p)
			if err != nil {
				continue
			}
			for _, n := range names {
				if !slices.Contains(all, n) && !slices.ContainsFunc(examples(), func(end string) bool { return strings.HasSuffix(n, end) }) {
					all = append(all, n)
				}
			}
		}
	}
	add(e.cfg.Client.Env.Home, startup())
	if e.cfg.Dir != "" {
		add(e.cfg.Dir, beside())
	}
	return all[:min(len(all), maxVisibleFiles)]
}

// matching are the files of a directory that a pattern names, in order.
func matching(dir, pattern string) ([]string, error) {
	sub, last := filepath.Split(pattern)
	entries, err := os.ReadDir(filepath.Join(dir, sub))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if ok, _ := filepath.Match(last, entry.Name()); ok {
			names = append(names, filepath.Join(dir, sub, entry.Name()))
		}
	}
	return names, nil
}

// read reads a regular file, or the first MiB of it. A link is followed, as
// shells do; nothing is ever waited for.
func read(path string) []byte {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(f, maxVisibleSize))
	if err != nil {
		return nil
	}
	return b
}

// A form is a way in which shells write that a variable is set.
type form struct {
	sets  *regexp.Regexp // wherever it stands in a line
	alone *regexp.Regexp // a line that holds nothing else
}

// What a form's second expression does not take may hold, or belong to,
// something else: a line that is indented, a value with an escape or with
// another's in it, one that ends on another line.
func forms() []form {
	const (
		begin = `^(?:[ \t]*#[# \t]*)?`
		end   = `(?:"[ !#%-\[\]-_a-~]*"|'[ -&(-~]*'|[!#%*-:=?-\[\]-_a-z{}~]+)[ \t]*\r?\n?$`
	)
	return []form{
		// NAME=value, also behind a comment's sign: it is in the clear there.
		{regexp.MustCompile(`(^|[^A-Za-z0-9_$.{-])([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*("[^"]*|'[^']*|[^\s;&|"']*)`),
			regexp.MustCompile(begin + `(?:export[ \t]+)?([A-Za-z0-9_]+)[ \t]*=[ \t]*` + end)},
		// set -gx NAME value, setenv NAME value
		{regexp.MustCompile(`(^|[;&|#\s])(?:set(?:[ \t]+-[A-Za-z-]+)+|setenv)[ \t]+([A-Za-z_][A-Za-z0-9_]*)[ \t]+("[^"]*|'[^']*|[^\s;&|"']*)`),
			regexp.MustCompile(begin + `(?:set(?:[ \t]+-[A-Za-z-]+)+|setenv)[ \t]+([A-Za-z0-9_]+)[ \t]+` + end)},
	}
}

// sightings are the lines of a file that set one of the secrets.
func sightings(path string, how []form, secret func(name string) bool) []sighting {
	b := read(path)
	defer clear(b)
	base := filepath.Base(path)
	dot := strings.HasPrefix(base, ".env") && base != ".envrc" || strings.HasSuffix(base, ".env")
	var all []sighting
	n, goesOn := 0, false // the line before ends with a backslash
	for line := range bytes.Lines(b) {
		n++
		whole := !goesOn && (len(b) < maxVisibleSize || bytes.HasSuffix(line, []byte("\n")))
		goesOn = bytes.HasSuffix(bytes.TrimRight(line, "\r\n"), []byte(`\`))
		for _, f := range how {
			for from := 0; ; {
				at := f.sets.FindSubmatchIndex(line[from:])
				if at == nil {
					break
				}
				before, name, value := line[:from+at[4]], line[from+at[4]:from+at[5]], line[from+at[6]:from+at[7]]
				if from += at[7]; len(value) > 0 && (value[0] == '"' || value[0] == '\'') {
					from -= len(value) // an alias, say, has one in its quotes
				}
				if !isValue(value) || !secret(string(name)) {
					continue
				}
				first := string(bytes.TrimSpace(before))
				s := sighting{path, n, string(name), dot && (first == "" || first == "export"), whole && f.holdsOnly(line, name)}
				if !slices.Contains(all, s) {
					all = append(all, s)
				}
			}
		}
	}
	return all
}

// holdsOnly says whether nothing but the name and its value stands in a line.
func (f form) holdsOnly(line, name []byte) bool {
	m := f.alone.FindSubmatch(line)
	return m != nil && bytes.Equal(m[1], name)
}

// isValue says whether a variable is set to something that may be a secret,
// rather than to nothing, to another variable, to what a command prints, or to
// dots that stand for it.
func isValue(v []byte) bool {
	v = bytes.TrimLeft(v, `"'`)
	switch {
	case bytes.HasPrefix(v, []byte("$")), bytes.HasPrefix(v, []byte("`")), bytes.HasPrefix(v, []byte("op://")), bytes.HasPrefix(v, []byte("vault:")), bytes.HasPrefix(v, []byte("<")):
		return false
	}
	return bytes.ContainsFunc(v, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) })
}

// remove says how the value goes out of its file. The line is emptied, so that
// the numbers of the others stay, and only if it still sets the name.
func (s sighting) remove() string {
	path, err := filepath.EvalSymlinks(s.path) // sed would put a file in the link's place
	if err != nil || !s.alone {
		return fmt.Sprintf("edit %s by hand: line %d may hold more than %s", durable.ShellQuote(s.path), s.line, s.name)
	}
	inPlace := "sed -i"
	if runtime.GOOS == "darwin" {
		inPlace = "sed -i ''"
	}
	return fmt.Sprintf(`%s -E '%ds/^([^=]*[#[:space:]])?%s[[:space:]=].*$//' %s`, inPlace, s.line, s.name, durable.ShellQuote(path))
}

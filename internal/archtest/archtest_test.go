// Package archtest keeps the shape of the project: which package may import
// which, and where the few dangerous things may be done. Each rule says why.
package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "moldable.sh/aivault"

// rows is the layout of docs/design.md: a package may import every row above
// its own, and in its own row what stands to its left.
var rows = [][]string{
	{"secret", "strictjson"},
	{"durable", "redact", "term", "api", "standin"},
	{"registry", "grant", "policy", "lint"},
	{"keysource", "audit", "vault", "quota"},
	{"egress", "oauth", "auth"},
	{"broker", "admin"},
	{"peer", "server", "daemon", "client", "attack", "doctor", "cli"},
	{"aivaulttest"},
}

// leaves import nothing of ours but the first row, not even each other.
const leafRow = 1

// A use is something that only a few packages may do.
type use struct {
	what    string
	matches func(pkgPath, name string) bool // of a selector pkg.Name
	allowed []string
	why     string
}

var uses = []use{
	{
		what: "dialling",
		matches: func(p, n string) bool {
			return p == "net" && (strings.HasPrefix(n, "Dial") || n == "Dialer") || p == "crypto/tls" && strings.HasPrefix(n, "Dial")
		},
		allowed: []string{"egress", "client", "attack"},
		why:     "every connection to an upstream passes the address guard in egress; client dials the daemon's socket, and attack does without its help",
	},
	{
		what: "an HTTP client",
		matches: func(p, n string) bool {
			return p == "net/http" && slices.Contains([]string{"Transport", "DefaultTransport", "DefaultClient", "Client", "Get", "Post", "PostForm", "Head"}, n)
		},
		allowed: []string{"egress", "client"},
		why:     "a second way out would have none of the guards",
	},
	{
		what:    "starting processes",
		matches: func(p, _ string) bool { return p == "os/exec" },
		allowed: []string{"daemon", "client"},
		why:     "only the daemon's own start needs another process, and its environment is chosen there",
	},
	{
		what: "reading the environment",
		matches: func(p, n string) bool {
			return p == "os" && slices.Contains([]string{"Getenv", "LookupEnv", "Environ", "ExpandEnv"}, n)
		},
		allowed: []string{"daemon"},
		why:     "the environment is parsed once, and a bad value is an error",
	},
	{
		what: "ending the process",
		matches: func(p, n string) bool {
			return p == "os" && n == "Exit" || p == "log" && strings.HasPrefix(n, "Fatal")
		},
		why: "only main ends the process, so that what was opened is closed and wiped",
	},
	{
		what:    "math/rand",
		matches: func(p, _ string) bool { return p == "math/rand" || p == "math/rand/v2" },
		why:     "nothing here may be guessable",
	},
	{
		what: "encoding/json",
		matches: func(p, n string) bool {
			return p == "encoding/json" && n != "Valid" && n != "Marshal" && n != "Compact"
		},
		allowed: []string{"secret", "strictjson"},
		why:     "encoding/json accepts duplicate and misspelt names; strictjson does not",
	},
}

// exposers may see a secret's bytes.
var exposers = []string{"secret", "keysource", "vault", "egress", "oauth", "auth", "redact", "client"}

// harnesses are written for tests, though they are no _test files.
var harnesses = []string{"aivaulttest", "standin"}

type source struct {
	pkg  string // "vault"; "cmd/aivault" outside internal
	path string
	test bool
	file *ast.File
	fset *token.FileSet
}

func (s source) where(n ast.Node) string { return s.fset.Position(n.Pos()).String() }

func sources(t *testing.T) []source {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var all []source
	fset := token.NewFileSet()
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && rel != "." || d.Name() == "testdata" || rel == "tools") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(p, ".go") {
			return nil
		}
		f, err := parser.ParseFile(fset, p, nil, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			return err
		}
		pkg := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(rel)), "internal/")
		all = append(all, source{pkg, rel, strings.HasSuffix(p, "_test.go"), f, fset})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("found only %d files below %s: the rules would hold of nothing", len(all), root)
	}
	return all
}

func place(pkg string) (row, column int) {
	for r, names := range rows {
		if c := slices.Index(names, pkg); c >= 0 {
			return r, c
		}
	}
	return -1, -1
}

// mayImport says whether the layout lets importer import imported.
func mayImport(importer, imported string) error {
	r, c := place(importer)
	ir, ic := place(imported)
	switch {
	case r < 0:
		return fmt.Errorf("package %s has no place in the layout", importer)
	case ir < 0:
		return fmt.Errorf("package %s has no place in the layout", imported)
	case r == leafRow && ir == leafRow:
		return fmt.Errorf("%s and %s are leaves: they do not know each other", importer, imported)
	case ir > r || ir == r && ic >= c:
		return fmt.Errorf("%s may not import %s: dependencies point up and left", importer, imported)
	}
	return nil
}

func TestImportsFollowTheLayout(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || !strings.HasPrefix(s.path, "internal"+string(filepath.Separator)) || s.pkg == "archtest" {
			continue
		}
		if r, _ := place(s.pkg); r < 0 {
			t.Errorf("%s: package %s has no place in the layout of docs/design.md", s.path, s.pkg)
			continue
		}
		for _, imp := range s.file.Imports {
			p, _ := strconv.Unquote(imp.Path.Value)
			if ours, ok := strings.CutPrefix(p, module+"/internal/"); ok {
				if err := mayImport(s.pkg, ours); err != nil {
					t.Errorf("%s: %v", s.where(imp), err)
				}
			}
			if strings.HasPrefix(p, module+"/cmd") {
				t.Errorf("%s: imports a main package", s.where(imp))
			}
			if p == module+"/registry" && s.pkg != "registry" {
				t.Errorf("%s: only internal/registry reads the provider files", s.where(imp))
			}
		}
	}
}

func TestTheLayoutRefusesWrongArrows(t *testing.T) {
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"vault", "audit", true}, {"audit", "vault", false}, {"policy", "egress", false}, {"broker", "server", false},
		{"api", "secret", true}, {"api", "redact", false}, {"secret", "api", false}, {"client", "daemon", true}, {"daemon", "client", false},
	} {
		if err := mayImport(c.from, c.to); (err == nil) != c.ok {
			t.Errorf("%s importing %s: %v", c.from, c.to, err)
		}
	}
}

func TestDangerousThingsStayWhereTheyBelong(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || slices.Contains(harnesses, s.pkg) || !strings.HasPrefix(s.path, "internal") {
			continue
		}
		names := map[string]string{} // local name -> import path
		for _, imp := range s.file.Imports {
			p, _ := strconv.Unquote(imp.Path.Value)
			local := path.Base(p)
			if imp.Name != nil {
				local = imp.Name.Name
				if local == "." {
					t.Errorf("%s: a dot import hides where a name comes from", s.where(imp))
				}
			}
			names[local] = p
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if sel.Sel.Name == "Expose" && !slices.Contains(exposers, s.pkg) {
				t.Errorf("%s: package %s may not see a secret's bytes (allowed: %s)", s.where(n), s.pkg, strings.Join(exposers, ", "))
			}
			id, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			for _, u := range uses {
				if p, imported := names[id.Name]; imported && u.matches(p, sel.Sel.Name) && !slices.Contains(u.allowed, s.pkg) {
					t.Errorf("%s: %s.%s: %s is only for %v: %s", s.where(n), id.Name, sel.Sel.Name, u.what, u.allowed, u.why)
				}
			}
			return true
		})
	}
}

func TestNothingRunsBeforeMain(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: init() runs before anyone could say no; call it from main", s.where(f))
			}
		}
		if slices.Contains([]string{"util", "utils", "common", "helpers", "types", "manager"}, s.file.Name.Name) {
			t.Errorf("%s: package %s is named for nothing; name it for the one noun it holds", s.path, s.file.Name.Name)
		}
	}
}

// The tag aivault_dev lets the mains read the development variables; anything
// more would be a second product that the tests do not see.
func TestTheDevelopmentTagOnlyReadsVariables(t *testing.T) {
	for _, s := range sources(t) {
		for _, g := range s.file.Comments {
			for _, c := range g.List {
				if strings.HasPrefix(c.Text, "//go:build") && strings.Contains(c.Text, "aivault_dev") && !strings.HasPrefix(filepath.ToSlash(s.path), "cmd/internal/devenv/") {
					t.Errorf("%s: the tag aivault_dev belongs to cmd/internal/devenv alone", s.where(c))
				}
			}
		}
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || !strings.HasPrefix(s.path, "internal") {
			continue
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) && !selfExplaining(d) {
					t.Errorf("%s: %s has no doc comment", s.where(d), d.Name.Name)
				}
			case *ast.GenDecl:
				for _, sp := range d.Specs {
					if ts, ok := sp.(*ast.TypeSpec); ok && ts.Name.IsExported() && d.Doc == nil && ts.Doc == nil {
						t.Errorf("%s: type %s has no doc comment", s.where(ts), ts.Name.Name)
					}
				}
			}
		}
	}
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	t := d.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	id, ok := t.(*ast.Ident)
	return ok && id.IsExported()
}

// selfExplaining methods satisfy interfaces that everyone knows.
func selfExplaining(d *ast.FuncDecl) bool {
	return d.Recv != nil && slices.Contains([]string{"Error", "Unwrap", "String", "Read", "Write", "Close", "Len", "Less", "Swap"}, d.Name.Name)
}

package main_test

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The table of what the daemon bounds says what the code does.
func TestTheTableOfBoundsIsTheCodes(t *testing.T) {
	page, err := os.ReadFile("../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "## What the daemon bounds\n")
	if !ok {
		t.Fatal("the page has no such table")
	}
	section, _, _ := strings.Cut(rest, "\n## ")
	rows := regexp.MustCompile("(?m)^\\| .* \\| (\\S+) \\| `(\\w+)\\.(\\w+)` \\|$").FindAllStringSubmatch(section, -1)
	if lines := strings.Count(section, "\n| "); len(rows) != lines-1 { // the first names the columns
		t.Errorf("%d of %d rows can be read", len(rows), lines-1)
	}
	packages := map[string]map[string]ast.Expr{}
	for _, row := range rows {
		said, pkg, name := row[1], row[2], row[3]
		if packages[pkg] == nil {
			packages[pkg] = constants(t, filepath.Join("../../internal", pkg))
		}
		expr := packages[pkg][name]
		if expr == nil {
			t.Errorf("%s has no constant %s", pkg, name)
			continue
		}
		is, timed := evaluate(t, packages[pkg], expr)
		text := is.ExactString()
		if timed {
			ns, _ := constant.Int64Val(is)
			text = time.Duration(ns).String()
		}
		if text != said {
			t.Errorf("%s.%s is %s, and the page says %s", pkg, name, text, said)
		}
	}
}

// constants are a package's, with what each is.
func constants(t *testing.T, dir string) map[string]ast.Expr {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]ast.Expr{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok || decl.Tok != token.CONST {
				continue
			}
			for _, s := range decl.Specs {
				spec := s.(*ast.ValueSpec)
				for i, name := range spec.Names {
					if i < len(spec.Values) {
						all[name.Name] = spec.Values[i]
					}
				}
			}
		}
	}
	return all
}

// evaluate computes a constant, and says whether it is a time.
func evaluate(t *testing.T, known map[string]ast.Expr, e ast.Expr) (v constant.Value, timed bool) {
	t.Helper()
	switch e := e.(type) {
	case *ast.BasicLit:
		return constant.MakeFromLiteral(e.Value, e.Kind, 0), false
	case *ast.ParenExpr:
		return evaluate(t, known, e.X)
	case *ast.Ident:
		if known[e.Name] != nil {
			return evaluate(t, known, known[e.Name])
		}
	case *ast.SelectorExpr:
		for name, unit := range map[string]time.Duration{"Millisecond": time.Millisecond, "Second": time.Second, "Minute": time.Minute, "Hour": time.Hour} {
			if e.Sel.Name == name {
				return constant.MakeInt64(int64(unit)), true
			}
		}
	case *ast.BinaryExpr:
		x, a := evaluate(t, known, e.X)
		y, b := evaluate(t, known, e.Y)
		if e.Op == token.SHL {
			n, _ := constant.Uint64Val(y)
			return constant.Shift(x, token.SHL, uint(n)), a
		}
		return constant.BinaryOp(x, e.Op, y), a || b
	}
	t.Fatalf("a constant that is more than numbers and times: %T", e)
	return nil, false
}

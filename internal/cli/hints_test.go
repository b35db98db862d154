package cli

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestHints: each command line that a hint of any package shows is one that
// there is, with the flags that it has.
func TestHints(t *testing.T) {
	o, _, _ := testOptions(t, nil)
	root := newRoot(o)
	root.InitDefaultHelpCmd()
	hints := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		hint := map[ast.Node]bool{}
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && len(call.Args) > 0 {
				sel, ok := call.Fun.(*ast.SelectorExpr)
				hint[call.Args[0]] = ok && sel.Sel.Name == "WithHint"
			}
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(lit.Value)
			if err != nil || strings.Contains(text, "\n") {
				return true // the examples of help are run
			}
			for _, line := range commandLines(text) {
				hints++
				if why := unknownIn(root, line, hint[lit] && strings.HasPrefix(text, "aivault ")); why != "" {
					t.Errorf("%s: %q: %s", path, line, why)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if hints < 40 {
		t.Errorf("only %d command lines were found", hints)
	}
}

// commandLines are the command lines that a text shows: from each "aivault "
// and a known group's or command's word on.
func commandLines(text string) []string {
	var lines []string
	for _, at := range regexp.MustCompile(`\baivault [a-z]`).FindAllStringIndex(text, -1) {
		line, _, _ := strings.Cut(text[at[0]:], ", ")
		lines = append(lines, strings.TrimPrefix(line, "aivault "))
	}
	return lines
}

// unknownIn says what of a command line does not exist. Where it is not the
// whole of a hint, what follows the program's name may be prose.
func unknownIn(root *cobra.Command, line string, whole bool) string {
	words := strings.Fields(line)
	cmd := root
	for len(words) > 0 {
		child, _, err := cmd.Find(words[:1])
		if err != nil || child == cmd {
			break
		}
		cmd, words = child, words[1:]
	}
	switch {
	case cmd == root && whole && !strings.HasPrefix(line, "%"):
		return "aivault has no such command"
	case cmd == root:
		return "" // "aivault adds what authenticates"
	}
	if cmd.HasSubCommands() && len(words) > 0 && !strings.HasPrefix(words[0], "-") && !strings.HasPrefix(words[0], "%") {
		return "aivault " + cmd.Name() + " has no command " + words[0]
	}
	for _, w := range words {
		flag, is := strings.CutPrefix(w, "--")
		flag, _, _ = strings.Cut(flag, "=")
		if flag = strings.TrimRight(flag, ".,:;)'"); is && flag != "" && flag != "help" && cmd.Flag(flag) == nil {
			return "it has no flag --" + flag
		}
	}
	return ""
}

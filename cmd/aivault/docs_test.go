package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/daemon"
)

func readDoc(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// firstCells returns the cells of every table row that begins with a code
// span, e.g. | `name` | … |.
func rows(doc string) [][]string {
	var all [][]string
	for line := range strings.Lines(doc) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		var cells []string
		for _, c := range strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|") {
			cells = append(cells, strings.TrimSpace(c))
		}
		all = append(all, cells)
	}
	return all
}

func TestErrorTableIsTheCodes(t *testing.T) {
	var want []string
	for _, o := range api.Outcomes() {
		status := "-"
		if o.HTTP != 0 {
			status = fmt.Sprint(o.HTTP)
		}
		want = append(want, fmt.Sprintf("`%s` %d %s", o.Code, o.Exit, status))
	}
	var got []string
	for _, r := range rows(readDoc(t, "docs/errors.md")) {
		got = append(got, strings.Join(r[:3], " "))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("docs/errors.md differs from internal/api/errors.go (-code +page):\n%s", d)
	}
}

func TestEnvironmentTableIsTheCodes(t *testing.T) {
	var want []string
	for _, v := range append(daemon.Variables(), daemon.DevVariables()...) {
		want = append(want, "`"+v.Name+"`", v.Meaning)
	}
	var got []string
	for _, r := range rows(readDoc(t, "docs/environment.md")) {
		if len(r) == 3 && !strings.HasPrefix(r[0], "`--") { // a flag of the daemon's
			got = append(got, r[0], r[2])
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("docs/environment.md differs from daemon.Variables (-code +page):\n%s", d)
	}
}

// Every module that the project names itself has its reason written down.
func TestDependenciesHaveReasons(t *testing.T) {
	direct := regexp.MustCompile(`(?m)^\s*(?:require )?([a-z0-9.-]+/\S+) v\S+$`) // no "// indirect"
	want := map[string]bool{}
	for _, m := range direct.FindAllStringSubmatch(readDoc(t, "go.mod"), -1) {
		want[m[1]] = true
	}
	got := map[string]bool{}
	for _, r := range rows(readDoc(t, "docs/dependencies.md")) {
		got[strings.Trim(r[0], "`")] = true
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("docs/dependencies.md differs from go.mod (-go.mod +page):\n%s", d)
	}
}

// A link within the project leads somewhere.
func TestLinksLead(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	pages = append(pages, "../../README.md", "../../SECURITY.md", "../../CONTRIBUTING.md")
	for _, page := range pages {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(b), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: link to %s leads nowhere", page, m[1])
			}
		}
	}
}

package main_test

import (
	"encoding/json"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdMend does what a person does who follows the doctor's hints.
func cmdMend(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: mend")
	}
	_ = ts.Exec("aivault", "doctor", "--json") // ends with 1
	var report struct {
		Checks []struct{ ID, Level, Hint string }
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &report))
	mended := 0
	for _, f := range report.Checks {
		if (f.Hint != "") != (f.Level == "problem" || f.Level == "warning") {
			ts.Fatalf("%s is %s, with the hint %q", f.ID, f.Level, f.Hint)
		}
		if f.Hint != "" {
			mended++
			ts.Check(ts.Exec("sh", "-euc", f.Hint))
		}
	}
	if mended == 0 {
		ts.Fatalf("there is nothing to mend")
	}
}

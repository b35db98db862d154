package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// versionInfo is what `aivault version --json` prints.
type versionInfo struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Dev      bool   `json:"dev"`
}

func newVersion(o *Options) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version, commit and Go version",
		Args:  noArgs,
		RunE:  func(*cobra.Command, []string) error { return printVersion(o) },
	}
}

func printVersion(o *Options) error {
	if o.JSON {
		b := o.Build
		return o.printJSON(versionInfo{b.Version, b.Commit, b.Go, runtime.GOOS + "/" + runtime.GOARCH, b.Dev != nil})
	}
	return o.print(fmt.Appendf(nil, "aivault %s\n", o.Build))
}

// Command aivault is the CLI: it calls APIs with keys that the caller never
// sees, and manages the vault that holds them.
package main

import (
	"os"

	"moldable.sh/aivault/cmd/internal/devenv"
	"moldable.sh/aivault/internal/cli"
)

// version is set by the linker.
var version string

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ(), version, devenv.Read))
}

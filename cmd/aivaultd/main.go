// Command aivaultd owns a vault and makes calls for those who hold no key.
package main

import (
	"os"

	"moldable.sh/aivault/cmd/internal/devenv"
	"moldable.sh/aivault/internal/daemon"
)

// version is set by the linker.
var version string

func main() {
	os.Exit(daemon.Main(os.Args, version, devenv.Read, os.Stdout, os.Stderr))
}

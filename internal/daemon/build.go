package daemon

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// NewBuild puts together what the linker was told (version, "" for nothing)
// and what the Go tool recorded in the binary.
func NewBuild(version string, dev *Dev) Build {
	b := Build{Version: version, Go: runtime.Version(), Dev: dev}
	modified := false
	if info, ok := debug.ReadBuildInfo(); ok {
		if b.Version == "" && info.Main.Version != "(devel)" {
			b.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Commit = s.Value
			case "vcs.modified":
				modified = s.Value == "true"
			}
		}
	}
	if len(b.Commit) > 12 {
		b.Commit = b.Commit[:12]
	}
	if b.Commit == "" {
		b.Commit = "unknown"
	} else if modified {
		b.Commit += "-modified"
	}
	if b.Version == "" {
		b.Version = "devel"
	}
	return b
}

// String is what --version prints after the program's name.
func (b Build) String() string {
	s := fmt.Sprintf("%s (commit %s, %s, %s/%s)", b.Version, b.Commit, b.Go, runtime.GOOS, runtime.GOARCH)
	if b.Dev != nil {
		s += " development build"
	}
	return s
}

//go:build !(linux && amd64)

package vault

import (
	"os/exec"
	"testing"
)

func traced(t *testing.T, _ *exec.Cmd, _ string) []diskEvent {
	t.Skip("what a process does to its files is followed on Linux on amd64 alone")
	return nil
}

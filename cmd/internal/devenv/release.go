//go:build !aivault_dev

// Package devenv reads the development variables (AIVAULT_DEV_…) in builds
// with the tag aivault_dev, and in no others.
package devenv

import "moldable.sh/aivault/internal/daemon"

// Read returns nil: this build knows no development variables, and refuses to
// make calls where it finds one.
func Read([]string) (*daemon.Dev, error) { return nil, nil }

package client

import (
	"context"
	"io/fs"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"moldable.sh/aivault/internal/api"
)

// browserPatience is how long a program that opens pages may take to say that
// it cannot.
const browserPatience = 3 * time.Second

// OpenBrowser opens a page in the person's browser, by the program that their
// system has for it. environ is what that program gets, without what is
// aivault's own. It holds nothing of this process's: no input, no output, no
// terminal.
func OpenBrowser(ctx context.Context, environ []string, page string) error {
	name, args := opener(environ)
	if name == "" {
		return api.Errorf(api.InvalidRequest, "there is no screen to open a browser on")
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return api.Errorf(api.InvalidRequest, "there is no %s to open a browser with", name)
	}
	cmd := exec.Command(path, append(args, page)...)
	cmd.Env = slices.DeleteFunc(slices.Clone(environ), func(e string) bool { return strings.HasPrefix(e, "AIVAULT") })
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C is not for the browser
	if err := inheritNothing(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return api.Errorf(api.InvalidRequest, "%s does not start: %w", name, pathless(err))
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // it may be the browser itself, and stay
	select {
	case err := <-ended:
		if err != nil {
			return api.Errorf(api.InvalidRequest, "%s could open no browser", name)
		}
	case <-ctx.Done():
	case <-time.After(browserPatience):
	}
	return nil
}

// opener is the program that opens a page, "" where there is no screen.
func opener(environ []string) (name string, args []string) {
	if runtime.GOOS == "darwin" {
		return "/usr/bin/open", nil
	}
	for _, e := range environ {
		if value, ok := strings.CutPrefix(e, "DISPLAY="); ok && value != "" {
			return "xdg-open", nil
		}
		if value, ok := strings.CutPrefix(e, "WAYLAND_DISPLAY="); ok && value != "" {
			return "xdg-open", nil
		}
	}
	return "", nil
}

// pathless is an error of the system without the arguments of what was tried.
func pathless(err error) error {
	if p, ok := err.(*fs.PathError); ok {
		return p.Err
	}
	return err
}

package client

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
)

// The browser is opened by the system's own program, which gets the address
// and an environment without anything of aivault's.
func TestOpenBrowser(t *testing.T) {
	if runtime.GOOS == "darwin" {
		t.Log("open is not replaced here: it would open a page")
		return
	}
	dir := t.TempDir()
	seen := filepath.Join(dir, "seen")
	script := "#!/bin/sh\nprintf '%s\\n' \"$#\" \"$1\" >'" + seen + "'\nenv >>'" + seen + "'\ncase $1 in *fail*) exit 3 ;; esac\n"
	if err := os.WriteFile(filepath.Join(dir, "xdg-open"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	environ := []string{"PATH=" + os.Getenv("PATH"), "DISPLAY=:0", "AIVAULT_KEY=the-key", "AIVAULTD_SOCKET=/s", "LANG=C"}
	const page = "https://id.test/authorize?state=a&b=$(x);'"
	if err := OpenBrowser(t.Context(), environ, page); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(seen)
	if text := string(data); err != nil || !strings.HasPrefix(text, "1\n"+page+"\n") || strings.Contains(text, "AIVAULT") || !strings.Contains(text, "LANG=C") {
		t.Errorf("%q, %v", text, err)
	}
	for what, try := range map[string]struct {
		environ []string
		page    string
	}{
		"a program that fails": {environ, "https://fail.test/"},
		"no screen":            {[]string{"PATH=" + os.Getenv("PATH")}, page},
		"a screen of no name":  {[]string{"DISPLAY=", "WAYLAND_DISPLAY="}, page},
	} {
		if err := OpenBrowser(t.Context(), try.environ, try.page); api.CodeOf(err) != api.InvalidRequest || strings.Contains(err.Error(), "https") {
			t.Errorf("%s: %v", what, err)
		}
	}
	t.Setenv("PATH", "/nonexistent")
	if err := OpenBrowser(t.Context(), environ, page); api.CodeOf(err) != api.InvalidRequest {
		t.Errorf("no program: %v", err)
	}
}

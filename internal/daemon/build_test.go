package daemon

import (
	"runtime"
	"strings"
	"testing"
)

func TestBuild(t *testing.T) {
	b := NewBuild("1.2.3", nil)
	if s := b.String(); !strings.HasPrefix(s, "1.2.3 (commit ") || !strings.Contains(s, runtime.Version()) || strings.Contains(s, "development") {
		t.Errorf("%q", s)
	}
	if b := NewBuild("", &Dev{}); b.Version == "" || b.Commit == "" || !strings.HasSuffix(b.String(), "development build") {
		t.Errorf("%+v", b)
	}
}

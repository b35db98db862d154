package egress

import (
	"fmt"
	"net/http"
	"testing"
)

// What goes alone goes over a connection that served nothing before it and
// serves nothing after it, whatever other calls to the same place do.
func TestACallAlone(t *testing.T) {
	up := startAPI(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RemoteAddr) }))
	c := newClient(t, Config{})
	alone := up.to
	alone.Alone = true
	seen := map[string]int{}
	_, shared := get(t, c, up.to, "/")
	for range 3 {
		_, at := get(t, c, alone, "/")
		seen[at]++
		if _, again := get(t, c, up.to, "/"); again != shared {
			t.Error("calls that share a connection do so no longer")
		}
	}
	if len(seen) != 3 || seen[shared] != 0 {
		t.Errorf("connections: %v, shared %s", seen, shared)
	}
}

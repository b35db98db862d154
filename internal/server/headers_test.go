package server

import (
	"runtime"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
)

func headersOf(n int) []byte {
	return []byte(`{"capability":"a/b","request":{"headers":[` + strings.Repeat(`{},`, n-1) + `{}]}}`)
}

// A call takes no more memory than a few times its bytes.
func TestHeadersAreBoundedWhileTheyAreRead(t *testing.T) {
	var call api.Call
	if err := unmarshal(headersOf(api.MaxHeaders), &call); err != nil || len(call.Request.Headers) != api.MaxHeaders {
		t.Errorf("%d headers: %v", len(call.Request.Headers), err)
	}
	body := headersOf(1_000_000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := unmarshal(body, &call)
	runtime.ReadMemStats(&after)
	if api.CodeOf(err) != api.InvalidRequest || !strings.Contains(err.Error(), `field "/request/headers" has more than 1000 entries`) {
		t.Errorf("a million headers: %v", err)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > uint64(len(body)) {
		t.Errorf("%d bytes of JSON took %d bytes of memory", len(body), took)
	}
}

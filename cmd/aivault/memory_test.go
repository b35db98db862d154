package main_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"moldable.sh/aivault/internal/api"
)

// Bodies stream: however long they are, and several at once, the daemon's
// memory stays as it was.
func TestMemoryIsFlat(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	size := int64(256 << 20)
	if raceEnabled { // the test is slow then, not the daemon
		size = 64 << 20
	}
	flatMemory(t, size, 2)
}

// filler is text without end that looks like an answer.
type filler struct{ at int }

const fillerText = `{"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"delta":{"content":" Hello, \u00e9\n"}}]},`

func (f *filler) Read(p []byte) (int, error) {
	for n := 0; n < len(p); {
		m := copy(p[n:], fillerText[f.at:])
		n, f.at = n+m, (f.at+m)%len(fillerText)
	}
	return len(p), nil
}

// flatMemory sends and receives bodies of size bytes, so many at once, and
// compares what the daemon holds at most with what it held before.
func flatMemory(t *testing.T, size int64, atOnce int) {
	r := startReal(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		n, err := io.Copy(io.Discard, q.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("X-Request-Id", strconv.FormatInt(n, 10))
		w.Header().Set("Content-Type", "application/json")
		if q.Header.Get("X-Long") != "" {
			_, _ = io.CopyBuffer(w, io.LimitReader(&filler{}, size), make([]byte, 32<<10))
		}
	}))
	call := func(up, down int64) error {
		headers := ""
		if down > 0 {
			headers = `,"headers":[{"name":"X-Long","value":"1"}]`
		}
		head := "--b\r\nContent-Disposition: form-data; name=\"envelope\"\r\n\r\n" +
			`{"capability":"openai/chat-completions","request":{"path":"/v1/chat/completions"` + headers + `}}` +
			"\r\n--b\r\nContent-Disposition: form-data; name=\"body\"\r\n\r\n"
		body := io.MultiReader(strings.NewReader(head), io.LimitReader(&filler{}, up), strings.NewReader("\r\n--b--\r\n"))
		resp, err := r.client().Post("http://x"+api.RouteProxy, "multipart/form-data; boundary=b", body)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		n, err := io.Copy(io.Discard, resp.Body)
		if got := resp.Header.Get("X-Request-Id"); err != nil || resp.StatusCode != 200 || got != strconv.FormatInt(up, 10) || n != down || resp.Trailer.Get(api.HeaderError) != "" {
			return fmt.Errorf("%d, %s bytes of %d arrived, %d of %d came back: %v %v", resp.StatusCode, got, up, n, down, err, resp.Trailer)
		}
		return nil
	}
	for range 20 { // what a daemon that makes calls needs anyway
		if err := call(100, 0); err != nil {
			t.Fatal(err)
		}
	}
	before := r.memory("VmRSS")
	for _, c := range [][2]int64{{size, 0}, {0, size}, {size, size}} {
		failed := make(chan error, atOnce)
		var wg sync.WaitGroup
		for range atOnce {
			wg.Go(func() { failed <- call(c[0], c[1]) })
		}
		wg.Wait()
		for range atOnce {
			if err := <-failed; err != nil {
				t.Fatal(err)
			}
		}
		most := r.memory("VmHWM")
		t.Logf("%d at once, %d MiB there, %d MiB back: %d KiB before, %d KiB at most", atOnce, c[0]>>20, c[1]>>20, before, most)
		if most-before > 32<<10 {
			t.Errorf("%d at once, %d bytes there and %d back: the daemon took %d KiB more", atOnce, c[0], c[1], most-before)
		}
	}
}

// memory reads a line of the daemon's /proc/PID/status, in KiB.
func (r *real) memory(what string) int {
	r.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.daemon.Process.Pid))
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, what+":"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				r.t.Fatal(err)
			}
			return n
		}
	}
	r.t.Fatalf("no %s", what)
	return 0
}

//go:build system

package main_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
)

// The long form of TestMemoryIsFlat: a GiB, three times at once.
func TestSystemMemoryIsFlat(t *testing.T) {
	t.Parallel()
	flatMemory(t, 1<<30, 3)
}

// A minute after its last call a daemon is small.
func TestSystemIdleDaemonIsSmall(t *testing.T) {
	t.Parallel() // it waits
	flat := startReal(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		fmt.Fprint(w, "{}")
	}))
	agent := flat.client()
	for range 300 {
		resp, err := agent.Post("http://x"+api.RouteProxy, "application/json", strings.NewReader(`{"capability":"openai/chat-completions","request":{"body":"{}"}}`))
		must(t, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	time.Sleep(time.Minute)
	if rss := flat.memory("VmRSS"); rss > 25<<10 {
		t.Errorf("an idle daemon takes %d KiB", rss)
	} else {
		t.Logf("an idle daemon takes %d KiB", rss)
	}
}

// openToOthers lets other users reach the agents' socket, by its group.
func openToOthers(t *testing.T, r *real) {
	t.Helper()
	must(t, os.Chmod(r.home, 0o711))
	must(t, os.Chmod(filepath.Dir(r.agents), 0o711))
	must(t, os.Chmod(r.agents, 0o666))
}

// status asks for the daemon's status as a user, and says how long it took.
func statusAs(uid uint32, socket string) (time.Duration, error) {
	began := time.Now()
	c, err := dialAs(uid, socket)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, "GET "+api.RouteStatus+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
		return 0, fmt.Errorf("%d %w", resp.StatusCode, err)
	}
	return time.Since(began), nil
}

// Ten thousand connections of one user, and as many as they get of eight
// others, keep out neither another user nor the operator.
func TestSystemTenThousandConnections(t *testing.T) {
	r := startReal(t, nil)
	openToOthers(t, r)
	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	limit.Cur = limit.Max
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	flood := func(uid uint32, n int) {
		for range n {
			c, err := dialAs(uid, r.agents)
			if err != nil {
				continue // refused is as good
			}
			open = append(open, c)
		}
	}
	check := func(when string) {
		t.Helper()
		for _, who := range []struct {
			uid    uint32
			socket string
		}{{62_001, r.agents}, {0, r.agents}, {0, filepath.Join(r.home, ".aivault/run/aivaultd.sock")}} {
			took, err := statusAs(who.uid, who.socket)
			if err != nil || took > 5*time.Second {
				t.Errorf("%s: user %d at %s: %v after %s", when, who.uid, filepath.Base(who.socket), err, took)
			}
		}
		r.run(false, "secrets", "list")
	}
	flood(62_000, 10_000)
	if len(open) < 9000 {
		t.Fatalf("only %d connections were made: this proves nothing", len(open))
	}
	check("one user's ten thousand")
	for uid := uint32(62_100); uid < 62_108; uid++ {
		flood(uid, 700)
	}
	check("eight users' all")
}

// Four hundred calls of one user that are stuck, in every way there is, do not
// slow those of another.
func TestSystemStuckCallsSlowNobody(t *testing.T) {
	r := startReal(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch q.Header.Get("X-Kind") {
		case "never":
			<-q.Context().Done()
		case "slow":
			for q.Context().Err() == nil {
				_, _ = io.WriteString(w, "x")
				_ = http.NewResponseController(w).Flush()
				time.Sleep(200 * time.Millisecond)
			}
		case "endless": // into a caller that does not read
			piece := strings.Repeat("x", 32<<10)
			for q.Context().Err() == nil {
				if _, err := io.WriteString(w, piece); err != nil {
					return
				}
			}
		default:
			_, _ = io.Copy(io.Discard, q.Body)
			_, _ = io.WriteString(w, `{"ok":true}`)
		}
	}))
	openToOthers(t, r)
	call := func(kind string) string {
		body := `{"capability":"openai/chat-completions","request":{"body":"{}","headers":[{"name":"X-Kind","value":"` + kind + `"}]}}`
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", api.RouteProxy, len(body), body)
	}
	// times are how long calls of another user take, in order.
	times := func() []time.Duration {
		t.Helper()
		c, err := dialAs(63_001, r.agents)
		must(t, err)
		defer c.Close()
		answers := bufio.NewReader(c)
		var all []time.Duration
		for range 300 {
			began := time.Now()
			_ = c.SetDeadline(began.Add(30 * time.Second))
			_, err := io.WriteString(c, call("none"))
			must(t, err)
			resp, err := http.ReadResponse(answers, nil)
			must(t, err)
			b, err := io.ReadAll(resp.Body)
			must(t, err)
			if resp.StatusCode != 200 {
				t.Fatalf("%d %s", resp.StatusCode, b)
			}
			all = append(all, time.Since(began))
		}
		slices.Sort(all)
		return all
	}
	times()
	alone, before := times(), r.memory("VmRSS")
	var stuck []net.Conn
	defer func() {
		for _, c := range stuck {
			_ = c.Close()
		}
	}()
	kinds := []string{"never", "slow", "endless", "upload", "header"}
	for i := range 400 {
		c, err := dialAs(63_000, r.agents)
		must(t, err)
		stuck = append(stuck, c)
		switch kind := kinds[i%len(kinds)]; kind {
		case "upload":
			_, _ = io.WriteString(c, strings.TrimSuffix(call("none"), "}"))
		case "header":
			_, _ = io.WriteString(c, "POST "+api.RouteProxy+" HTTP/1.1\r\nHost: x\r\nX-")
		default:
			_, _ = io.WriteString(c, call(kind))
		}
	}
	time.Sleep(2 * time.Second) // until what fills up is full
	beside, after := times(), r.memory("VmRSS")
	at := func(all []time.Duration, part int) time.Duration { return all[len(all)*part/100] }
	t.Logf("alone p50 %s p95 %s, beside 400 stuck calls p50 %s p95 %s; %d KiB, then %d KiB", at(alone, 50), at(alone, 95), at(beside, 50), at(beside, 95), before, after)
	// Wide, for machines that are busy with something else as well.
	if at(beside, 50) > 5*at(alone, 50)+20*time.Millisecond {
		t.Errorf("the median of another user's calls is %s, %s without them", at(beside, 50), at(alone, 50))
	}
	if after-before > 128<<10 {
		t.Errorf("400 stuck calls take %d KiB", after-before)
	}
}

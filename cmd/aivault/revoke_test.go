package main_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
)

// What is taken away ends the calls that use it, wherever they stand: within a
// second of the command's end, by the daemon and by another process.
func TestTakenAway(t *testing.T) {
	entered := make(chan struct{}, 100)
	release := make(chan struct{})
	r := startReal(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		ctl := http.NewResponseController(w)
		_ = ctl.EnableFullDuplex()
		key := strings.TrimPrefix(q.Header.Get("Authorization"), "Bearer ")
		switch q.Header.Get("X-Kind") {
		case "header": // never comes
		case "upload":
			entered <- struct{}{}
			_, _ = io.Copy(io.Discard, q.Body) // never ends
			return
		case "rotated":
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "data: begun\n\n")
			_ = ctl.Flush()
			entered <- struct{}{}
			<-release
			fmt.Fprintf(w, "data: %s\n\ndata: sk-after-0123456789abcdef\n\ndata: end\n\n", key)
			return
		default:
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "data: begun\n\n")
			_ = ctl.Flush()
		}
		entered <- struct{}{}
		<-q.Context().Done()
	}))
	type ended struct {
		kind string
		text string
		at   time.Time
	}
	begin := func(kind string, done chan ended) {
		envelope := `{"capability":"openai/chat-completions","request":{"headers":[{"name":"X-Kind","value":"` + kind + `"}]}}`
		body, sending := io.Pipe()
		go func() {
			fmt.Fprintf(sending, "--b\r\nContent-Disposition: form-data; name=\"envelope\"\r\n\r\n%s\r\n--b\r\nContent-Disposition: form-data; name=\"body\"\r\n\r\n{", envelope)
			if kind != "upload" {
				fmt.Fprint(sending, "}\r\n--b--\r\n")
				sending.Close()
			}
		}()
		req, err := http.NewRequest("POST", "http://x"+api.RouteProxy, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "multipart/form-data; boundary=b")
		go func() {
			defer sending.Close()
			resp, err := r.client().Do(req)
			if err != nil {
				done <- ended{kind, err.Error(), time.Now()}
				return
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			done <- ended{kind, fmt.Sprintf("%d %s %v %s %s", resp.StatusCode, b, err, resp.Trailer.Get(api.HeaderError), resp.Trailer.Get(api.HeaderErrorMessage)), time.Now()}
		}()
	}
	kinds := []string{"header", "upload", "events"}
	for _, c := range []struct {
		name         string
		takes, gives [][]string
		says         string
	}{
		{"lock", [][]string{{"lock"}}, [][]string{{"unlock"}}, "locked"},
		{"the grant", [][]string{{"grant", "default", "deny"}}, [][]string{{"grant", "default", "allow"}}, "grant"},
		{"the switch", [][]string{{"capability", "disable", "openai/chat-completions"}}, [][]string{{"capability", "enable", "openai/chat-completions"}}, "turned off"},
		{"the secret", [][]string{{"secrets", "delete", "OPENAI_API_KEY"}}, [][]string{{"secrets", "create", "--name", "OPENAI_API_KEY", "--value", realKey}}, "revoked"},
	} {
		for _, inProcess := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, in-process %v", c.name, inProcess), func(t *testing.T) {
				done := make(chan ended, len(kinds))
				for _, kind := range kinds {
					begin(kind, done)
				}
				for range kinds {
					select {
					case <-entered:
					case e := <-done:
						t.Fatalf("%s ended early: %s", e.kind, e.text)
					}
				}
				for _, args := range c.takes {
					r.run(inProcess, args...)
				}
				over := time.Now()
				for range kinds {
					select {
					case e := <-done:
						if !strings.Contains(e.text, c.says) {
							t.Errorf("%s ended with %s, want %q", e.kind, e.text, c.says)
						}
						if late := e.at.Sub(over); late > time.Second && !raceEnabled {
							t.Errorf("%s ended %s after the command", e.kind, late)
						}
					case <-time.After(20 * time.Second):
						t.Fatal("a call goes on")
					}
				}
				for _, args := range c.gives {
					r.run(false, args...)
				}
			})
		}
	}

	t.Run("a new value ends nothing", func(t *testing.T) {
		for _, inProcess := range []bool{false, true} {
			done := make(chan ended, 1)
			begin("rotated", done)
			<-entered
			r.run(inProcess, "secrets", "rotate", "OPENAI_API_KEY", "--value", "sk-after-0123456789abcdef")
			release <- struct{}{}
			e := <-done
			if !strings.Contains(e.text, "data: end") || strings.Count(e.text, "[redacted]") != 2 || strings.Contains(e.text, realKey) || strings.Contains(e.text, "sk-after") {
				t.Errorf("in-process %v: %s", inProcess, e.text)
			}
			r.run(false, "secrets", "rotate", "OPENAI_API_KEY", "--value", realKey)
		}
	})
}

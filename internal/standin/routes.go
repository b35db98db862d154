package standin

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// routes is what the API answers when Start was given no handler. It is no
// ServeMux, which would answer a path that is not clean with a redirect.
func (a *API) routes() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		switch {
		case r.URL.Path == "/echo":
			echo(w, r)
		case r.URL.Path == "/v1/chat/completions":
			a.chat(w, r)
		case r.URL.Path == "/sse":
			a.events(w, r)
		case r.URL.Path == "/redirect":
			redirect(w, r)
		case r.URL.Path == "/slow":
			a.slow(w, r)
		case first == "status" && rest != "":
			status(w, r, rest)
		case first == "bytes" && rest != "":
			sendBytes(w, r, rest)
		default:
			fallback(w, r)
		}
	})
}

// echo tells the caller all that it sent, its credentials included.
func echo(w http.ResponseWriter, r *http.Request) {
	rec := newRecord(r)
	if !drain(w, r, rec) {
		return
	}
	s := rec.snapshot()
	answer(w, http.StatusOK, map[string]any{
		"method": s.Method, "target": s.Target, "host": s.Host, "proto": s.Proto, "headers": s.Header,
		"body": string(s.Body), "bodyLength": s.BodyLength, "bodySha256": s.BodySHA256,
	})
}

// chat answers like a chat API that has one thing to say.
func (a *API) chat(w http.ResponseWriter, r *http.Request) {
	rec := newRecord(r)
	if !drain(w, r, rec) {
		return
	}
	var question struct {
		Model  string `json:"model"`
		Stream bool   `json:"stream"`
	}
	_ = json.Unmarshal(rec.snapshot().Body, &question) // a body that is no JSON gets the plain answer
	words := []string{"Hello", " from", " the", " stand-in."}
	if !question.Stream {
		answer(w, http.StatusOK, map[string]any{
			"id": "chatcmpl-standin", "object": "chat.completion", "model": question.Model,
			"choices": []any{map[string]any{
				"index": 0, "finish_reason": "stop",
				"message": map[string]string{"role": "assistant", "content": strings.Join(words, "")},
			}},
			"usage": map[string]int{"prompt_tokens": 1, "completion_tokens": len(words), "total_tokens": 1 + len(words)},
		})
		return
	}
	a.mu.Lock()
	wait := a.stepChat
	a.mu.Unlock()
	a.stream(w, r, wait, len(words)+1, func(i int) string {
		if i == len(words) {
			return "[DONE]"
		}
		chunk, _ := json.Marshal(map[string]any{ // strings and numbers: cannot fail
			"id": "chatcmpl-standin", "object": "chat.completion.chunk", "model": question.Model,
			"choices": []any{map[string]any{"index": 0, "delta": map[string]string{"content": words[i]}}},
		})
		return string(chunk)
	})
}

// events streams numbered events, one a Step.
func (a *API) events(w http.ResponseWriter, r *http.Request) {
	if !drain(w, r, io.Discard) {
		return
	}
	last := -1 // no last event
	if s := r.URL.Query().Get("events"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			answer(w, http.StatusBadRequest, map[string]string{"error": "events is not a number"})
			return
		}
		last = n
	}
	a.stream(w, r, true, last, func(i int) string { return fmt.Sprintf(`{"event":%d}`, i+1) })
}

// stream sends count events (any number when negative), each at once and, if
// wait, each after a Step.
func (a *API) stream(w http.ResponseWriter, r *http.Request, wait bool, count int, event func(int) string) {
	// Counting starts before the header is out: whoever has seen the header
	// may call Step, and it counts.
	a.mu.Lock()
	base := a.steps
	a.mu.Unlock()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	flusher := http.NewResponseController(w)
	if flusher.Flush() != nil {
		return
	}
	for i := 0; i != count; i++ {
		if wait && !a.waitStep(r, base+i+1) {
			return
		}
		if _, err := fmt.Fprintf(w, "data: %s\n\n", event(i)); err != nil {
			return
		}
		if flusher.Flush() != nil {
			return
		}
	}
}

// waitStep waits until Step was called n times; false when the caller
// is gone first, or Close has ended the connection.
func (a *API) waitStep(r *http.Request, n int) bool {
	for {
		a.mu.Lock()
		done, stepped := a.steps >= n, a.stepped
		a.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-stepped:
		case <-r.Context().Done():
			return false
		}
	}
}

func status(w http.ResponseWriter, r *http.Request, text string) {
	code, err := strconv.Atoi(text)
	if err != nil || code < 200 || code > 599 {
		answer(w, http.StatusBadRequest, map[string]string{"error": "no such status"})
		return
	}
	if !drain(w, r, io.Discard) {
		return
	}
	if code == http.StatusNoContent || code == http.StatusNotModified {
		w.WriteHeader(code)
		return
	}
	answer(w, code, map[string]any{"status": code})
}

func sendBytes(w http.ResponseWriter, r *http.Request, text string) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		answer(w, http.StatusBadRequest, map[string]string{"error": "no such length"})
		return
	}
	if !drain(w, r, io.Discard) {
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	chunk := make([]byte, 32<<10)
	for i := range chunk {
		chunk[i] = byte(i)
	}
	for n > 0 {
		wrote, err := w.Write(chunk[:min(n, int64(len(chunk)))])
		if err != nil {
			return
		}
		n -= int64(wrote)
	}
}

func redirect(w http.ResponseWriter, r *http.Request) {
	if !drain(w, r, io.Discard) {
		return
	}
	w.Header().Set("Location", r.URL.Query().Get("to"))
	answer(w, http.StatusFound, map[string]string{"to": r.URL.Query().Get("to")})
}

func (a *API) slow(w http.ResponseWriter, r *http.Request) {
	ms, err := strconv.Atoi(r.URL.Query().Get("ms"))
	if err != nil || ms < 0 {
		answer(w, http.StatusBadRequest, map[string]string{"error": "ms is not a number"})
		return
	}
	if !drain(w, r, io.Discard) {
		return
	}
	timer := time.NewTimer(time.Duration(ms) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		answer(w, http.StatusOK, map[string]int{"waitedMs": ms})
	case <-r.Context().Done():
	}
}

func fallback(w http.ResponseWriter, r *http.Request) {
	if drain(w, r, io.Discard) {
		answer(w, http.StatusOK, map[string]any{"ok": true, "method": r.Method, "path": r.URL.Path})
	}
}

// drain reads the whole body before anything is answered; what cannot be read
// gets no answer worth sending.
func drain(w http.ResponseWriter, r *http.Request, to io.Writer) bool {
	if _, err := io.Copy(to, r.Body); err != nil {
		answer(w, http.StatusBadRequest, map[string]string{"error": "the body broke off"})
		return false
	}
	return true
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the caller may be gone
}

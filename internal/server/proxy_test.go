package server_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/strictjson"
)

const key = "sk-very-secret-value-7c1d"

// calling serves the agent over a handler that plays api.openai.com.
func calling(t *testing.T, h http.HandlerFunc) (*aivaulttest.Aivault, site) {
	t.Helper()
	o := aivaulttest.Options{}
	if h != nil {
		o.Handler = h
	}
	v, s := start(t, o, aivaulttest.Agent())
	v.Create(t, "OPENAI_API_KEY", key)
	return v, s
}

const chat = `{"capability":"openai/chat-completions","request":{"body":"{}"}}`

// parts writes a multipart request of (name, headers, content) triples.
func parts(triples ...[3]string) (kind, body string) {
	var b strings.Builder
	for _, p := range triples {
		fmt.Fprintf(&b, "--B\r\nContent-Disposition: form-data; name=\"%s\"\r\n%s\r\n%s\r\n", p[0], p[1], p[2])
	}
	return "Content-Type: multipart/form-data; boundary=B", b.String() + "--B--\r\n"
}

const noBody = `{"capability":"openai/chat-completions","request":{"headers":[{"name":"content-type","value":"application/octet-stream"}]}}`

func TestAnAnswerIsTheUpstreams(t *testing.T) {
	_, s := calling(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Aivault-Answer", "forged")
		w.Header().Set("Aivault-Error", "forged")
		w.Header().Set("Set-Cookie", "a=b")
		w.WriteHeader(418)
		_, _ = io.WriteString(w, `{"a":1}`)
	})
	resp, body := s.send(t, "POST", api.RouteProxy, chat)
	var planned api.Planned
	if err := strictjson.Unmarshal([]byte(resp.Header.Get(api.HeaderPlanned)), &planned); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 418 || body != `{"a":1}` || resp.Header.Get(api.HeaderAnswer) != "upstream" || resp.Header.Get("Content-Type") != "application/json" ||
		resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("Set-Cookie") != "" || resp.Header.Get(api.HeaderError) != "" {
		t.Errorf("%d %q %v", resp.StatusCode, body, resp.Header)
	}
	if planned.Capability != "openai/chat-completions" || planned.Method != "POST" || planned.URL != "https://api.openai.com/v1/chat/completions" {
		t.Errorf("planned %+v", planned)
	}
}

func TestARefusalIsTheDaemons(t *testing.T) {
	_, s := calling(t, nil)
	resp, body := s.send(t, "POST", api.RouteProxy, `{"capability":"openai/chat-completions","request":{"path":"/v1/files"}}`)
	refused(t, "another path", resp, body, 403, api.PolicyViolation)
	resp, body = s.send(t, "POST", api.RouteProxy, `{"capability":"openai/no-such","request":{}}`)
	refused(t, "no such capability", resp, body, 404, api.CapabilityNotFound)
}

func TestABodyInParts(t *testing.T) {
	v, s := calling(t, nil)
	big := strings.Repeat("0123456789abcdef", 3<<20/16)
	for _, c := range []struct{ name, header, body string }{
		{"length known", "Content-Length: " + strconv.Itoa(len(big)) + "\r\n", big},
		{"length unknown", "", big},
		{"empty", "", ""},
		{"looks like a boundary", "", "\r\n--B-\r\n--A--"},
		{"quoted-printable is not undone", "Content-Transfer-Encoding: quoted-printable\r\n", "a=3Db"},
	} {
		kind, body := parts([3]string{"envelope", "", noBody}, [3]string{"body", c.header, c.body})
		before := len(v.API.Seen())
		if resp, got := s.send(t, "POST", api.RouteProxy, body, kind); resp.StatusCode != 200 {
			t.Errorf("%s: %d %s", c.name, resp.StatusCode, got)
			continue
		}
		seen := v.API.Seen()[before:]
		if len(seen) != 1 || seen[0].BodyLength != int64(len(c.body)) {
			t.Errorf("%s: the upstream saw %d requests", c.name, len(seen))
		}
	}
}

func TestBrokenParts(t *testing.T) {
	complete := make(chan int64, 100)
	_, s := calling(t, func(w http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(io.Discard, r.Body); err == nil {
			complete <- n
		}
	})
	e, b := [3]string{"envelope", "", noBody}, [3]string{"body", "", "x"}
	withLength := func(n string) [3]string { return [3]string{"body", "Content-Length: " + n + "\r\n", "four"} }
	for _, c := range []struct {
		name    string
		triples [][3]string
		cut     int
	}{
		{"no parts", nil, 0},
		{"no body", [][3]string{e}, 0},
		{"no envelope", [][3]string{b}, 0},
		{"wrong order", [][3]string{b, e}, 0},
		{"envelope twice", [][3]string{e, e}, 0},
		{"a third part", [][3]string{e, b, {"more", "", "x"}}, 0},
		{"another name", [][3]string{e, {"file", "", "x"}}, 0},
		{"two bodies", [][3]string{{"envelope", "", chat}, b}, 0},
		{"broken envelope", [][3]string{{"envelope", "", noBody + "x"}, b}, 0},
		{"envelope too large", [][3]string{{"envelope", "", strings.Repeat(" ", 2<<20)}, b}, 0},
		{"length short", [][3]string{e, withLength("3")}, 0},
		{"length long", [][3]string{e, withLength("5")}, 0},
		{"length negative", [][3]string{e, withLength("-4")}, 0},
		{"length with sign", [][3]string{e, withLength("+4")}, 0},
		{"length twice", [][3]string{e, {"body", "Content-Length: 4\r\nContent-Length: 4\r\n", "four"}}, 0},
		{"end cut off", [][3]string{e, b}, 8},
	} {
		kind, body := parts(c.triples...)
		resp, got := s.send(t, "POST", api.RouteProxy, body[:len(body)-c.cut], kind)
		if resp.Header.Get(api.HeaderAnswer) != "" || resp.StatusCode != 400 && resp.StatusCode != 413 {
			t.Errorf("%s: %d %s", c.name, resp.StatusCode, got)
		}
		select {
		case n := <-complete:
			t.Errorf("%s: the upstream got a complete request of %d bytes", c.name, n)
		case <-time.After(10 * time.Millisecond):
		}
	}
	kind, body := parts(e, withLength("4"))
	for _, more := range []string{"x", "\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", strings.Repeat(" ", 1<<16)} {
		if resp, got := s.send(t, "POST", api.RouteProxy, body+more, kind); resp.StatusCode != 400 || resp.Header.Get(api.HeaderAnswer) != "" {
			t.Errorf("%.8q after the last part: %d %s", more, resp.StatusCode, got)
		}
	}
	if resp, got := s.send(t, "POST", api.RouteProxy, body, kind); resp.StatusCode != 200 {
		t.Errorf("the twin that is right: %d %s", resp.StatusCode, got)
	}
}

func TestEventsArriveWhenTheyAreSent(t *testing.T) {
	step := make(chan struct{})
	_, s := calling(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(200)
		_ = http.NewResponseController(w).Flush()
		for i := range 3 {
			<-step
			fmt.Fprintf(w, "data: %d\n\n", i)
			_ = http.NewResponseController(w).Flush()
		}
	})
	req, err := http.NewRequest("POST", "http://aivault"+api.RouteProxy, strings.NewReader(chat))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.Do(req) // returns before the first event
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for i := range 3 {
		step <- struct{}{}
		line, err := lines.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("event %d: %q %v", i, line, err)
		}
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := lines.ReadByte(); err != io.EOF || resp.Trailer.Get(api.HeaderError) != "" {
		t.Errorf("the end: %v %v", err, resp.Trailer)
	}
}

func TestWhatBreaksOffIsNamedInTheTrailer(t *testing.T) {
	_, s := calling(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000000")
		_, _ = w.Write(bytes.Repeat([]byte("x"), 500000))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	resp, body := s.send(t, "POST", api.RouteProxy, chat)
	if resp.StatusCode != 200 || len(body) == 0 || len(body) > 500000 {
		t.Errorf("%d with %d bytes", resp.StatusCode, len(body))
	}
	if got := resp.Trailer.Get(api.HeaderError); got != string(api.UpstreamUnreachable) {
		t.Errorf("the trailer says %q", got)
	}
	if m, err := strconv.Unquote(resp.Trailer.Get(api.HeaderErrorMessage)); err != nil || m == "" {
		t.Errorf("and %q", resp.Trailer.Get(api.HeaderErrorMessage))
	}
}

func TestStatusesWithoutABody(t *testing.T) {
	status := 204
	_, s := calling(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) })
	for _, status = range []int{204, 304, 200, 500} {
		resp, body := s.send(t, "POST", api.RouteProxy, chat)
		if resp.StatusCode != status || body != "" || resp.Header.Get(api.HeaderAnswer) != "upstream" {
			t.Errorf("%d: %d %q", status, resp.StatusCode, body)
		}
	}
}

func TestACallerWhoLeavesEndsTheCall(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	_, s := calling(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		close(began)
		<-r.Context().Done()
		close(ended)
	})
	c, err := net.Dial("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", api.RouteProxy, len(chat), chat)
	<-began
	c.Close()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("the upstream call goes on without its caller")
	}
}

// A large upload that is refused at once must still show why.
func TestARefusedUploadSeesItsRefusal(t *testing.T) {
	_, s := calling(t, nil)
	kind, body := parts([3]string{"envelope", "", `{"capability":"openai/no-such","request":{}}`}, [3]string{"body", "", strings.Repeat("x", 20<<20)})
	for range 5 {
		resp, got := s.send(t, "POST", api.RouteProxy, body, kind)
		refused(t, "upload", resp, got, 404, api.CapabilityNotFound)
	}
}

func FuzzCall(f *testing.F) {
	f.Add("application/json", chat)
	kind, body := parts([3]string{"envelope", "", noBody}, [3]string{"body", "Content-Length: 1\r\n", "x"})
	f.Add(strings.TrimPrefix(kind, "Content-Type: "), body)
	f.Add("multipart/form-data; boundary=\"\"", "--\r\n")
	v := aivaulttest.Start(f, aivaulttest.Options{})
	h := handlerOf(v)
	f.Fuzz(func(t *testing.T, kind, body string) {
		status, answer := serveOnce(h, kind, body)
		// There is no vault, so that no call can succeed: what comes back is
		// always one well-formed error.
		var e api.Error
		if status < 400 || strictjson.Unmarshal(answer, &e) != nil || e.Code == api.Internal {
			t.Errorf("%q %q: %d %s", kind, body, status, answer)
		}
	})
}

// An upstream may answer before it has the body: then nobody may read on when
// the answer is complete, and the caller sees the answer.
func TestAnAnswerBeforeTheBodysEnd(t *testing.T) {
	_, s := calling(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "early") })
	kind, body := parts([3]string{"envelope", "", noBody}, [3]string{"body", "", strings.Repeat("x", 8<<20)})
	for range 20 {
		resp, got := s.send(t, "POST", api.RouteProxy, body, kind)
		if resp.StatusCode != 200 || got != "early" {
			t.Fatalf("%d %q", resp.StatusCode, got)
		}
	}
	// A caller who stops in the middle of the body gets it too.
	c, err := net.Dial("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\n%s\r\nContent-Length: %d\r\n\r\n%s", api.RouteProxy, kind, len(body), body[:1000])
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(c)
	if err != nil || !bytes.Contains(all, []byte("early")) {
		t.Errorf("%q %v", all, err)
	}
}

// A connection that carried an upload without a declared length serves the
// next request too.
func TestAConnectionOutlivesAnUpload(t *testing.T) {
	_, s := calling(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	c, err := net.Dial("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	kind, body := parts([3]string{"envelope", "", noBody}, [3]string{"body", "", "small"})
	answers := bufio.NewReader(c)
	for i := range 10 {
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\n%s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", api.RouteProxy, kind, len(body), body)
		time.Sleep(time.Millisecond) // the end of the request comes by itself
		fmt.Fprint(c, "0\r\n\r\n")
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 || resp.Close {
			t.Fatalf("request %d: %d, close %v: %v", i, resp.StatusCode, resp.Close, err)
		}
	}
}

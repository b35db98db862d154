package broker_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/zstd"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
)

const echoed = "sk-Ab3d+Ef6/hIj9=kLm2 nOp5q&"

// echoes are the ways in which an upstream repeats a value that this table
// tries over every transport; redact's own tests have them all.
func echoes() map[string]string {
	all := map[string]string{
		"raw": echoed, "hex": hex.EncodeToString([]byte(echoed)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(echoed))),
		"query": url.QueryEscape(echoed), "path": url.PathEscape(echoed), "form": strings.ReplaceAll(url.QueryEscape(echoed), "%20", "+"),
		"HTML": strings.ReplaceAll(echoed, "&", "&amp;"), "HTML numbers": strings.ReplaceAll(echoed, "-", "&#x2d;"),
		"JSON": strings.ReplaceAll(echoed, "&", `\u0026`), "as rendered": "Bearer " + echoed,
		"mixture": `\u0073%6b&#45;` + echoed[3:],
	}
	for skip := range 3 {
		text := []byte("xy"[:skip] + echoed + "z")
		all[fmt.Sprint("base64 ", skip)] = base64.StdEncoding.EncodeToString(text)
		all[fmt.Sprint("raw URL base64 ", skip)] = base64.RawURLEncoding.EncodeToString(text)
	}
	return all
}

// trace is what of an echo is left when it was not found: most of the value.
func trace(text string) bool {
	for _, e := range echoes() {
		if len(e) > 12 && strings.Contains(text, e[4:len(e)-6]) {
			return true
		}
	}
	return false
}

func compressed(t testing.TB, how, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	switch how {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "zlib":
		w = zlib.NewWriter(&out)
	case "deflate":
		w, _ = flate.NewWriter(&out, flate.DefaultCompression)
	case "zstd":
		w, _ = zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
	}
	_, _ = io.WriteString(w, text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// transports are the ways in which a text reaches us.
func transports(t testing.TB) map[string]func(w http.ResponseWriter, text string) {
	chunks := func(size int) func(http.ResponseWriter, string) {
		return func(w http.ResponseWriter, text string) {
			for len(text) > 0 {
				n := min(size, len(text))
				_, _ = io.WriteString(w, text[:n])
				_ = http.NewResponseController(w).Flush()
				text = text[n:]
			}
		}
	}
	labelled := func(label, how string) func(http.ResponseWriter, string) {
		return func(w http.ResponseWriter, text string) {
			w.Header().Set("Content-Encoding", label)
			_, _ = w.Write(compressed(t, how, text))
		}
	}
	all := map[string]func(http.ResponseWriter, string){
		"with its length": func(w http.ResponseWriter, text string) {
			w.Header().Set("Content-Length", strconv.Itoa(len(text)))
			_, _ = io.WriteString(w, text)
		},
		"an error": func(w http.ResponseWriter, text string) {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, "no such key: "+text)
		},
		"gzip": labelled("gzip", "gzip"), "x-gzip": labelled("X-GZIP", "gzip"), "zlib": labelled("deflate", "zlib"), "raw deflate": labelled("deflate", "deflate"),
		"an event": func(w http.ResponseWriter, text string) {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprintf(w, "id: 1\ndata: {\"text\":\"%s\"}\n\n", text)
		},
		"a trailer": func(w http.ResponseWriter, text string) {
			w.Header().Set("Trailer", "X-Request-Id")
			_, _ = io.WriteString(w, "[redacted]")
			w.Header().Set("X-Request-Id", text)
		},
	}
	for _, size := range []int{1, 2, 3, 5, 7, 11, 16, 31} {
		all[fmt.Sprintf("chunks of %d", size)] = chunks(size)
	}
	for cut := 1; cut < len(echoed); cut++ {
		all[fmt.Sprintf("lines of data, cut at %d", cut)] = func(w http.ResponseWriter, text string) {
			w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
			at := min(cut, len(text)-1)
			_, _ = io.WriteString(w, "data: "+text[:at]+[]string{"\ndata:", "\ndata: ", "\r\ndata: ", "\rdata:"}[cut%4]+text[at:]+"\n\n")
		}
	}
	return all
}

// Every echo over every transport, in HTTP/1.1 and 2.
func TestNoEchoOverAnyTransport(t *testing.T) {
	var answer atomic.Pointer[func(w http.ResponseWriter)]
	v := start(t, aivaulttest.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { (*answer.Load())(w) })})
	acme(t, v, echoed, bearer())
	for how, write := range transports(t) {
		for name, text := range echoes() {
			serve := func(w http.ResponseWriter) { write(w, text) }
			answer.Store(&serve)
			answer, body, err := v.Invoke(get("acme/all", "/x"))
			if err != nil {
				t.Fatalf("%s, %s: %v", name, how, err)
			}
			if trace(body) || !strings.Contains(body, "[redacted]") {
				t.Errorf("%s, %s: %q", name, how, body)
			}
			for header, values := range answer.Header {
				if trace(strings.Join(values, " ")) {
					t.Errorf("%s, %s: header %s: %q", name, how, header, values)
				}
			}
		}
	}
	noneOnDisk(t, v, echoed)
}

// Echoes in the header, in what no caller sees of an answer, and lengths and
// digests that no longer fit.
func TestNoEchoInTheHeader(t *testing.T) {
	v := start(t, aivaulttest.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all := echoes()
		for _, name := range []string{"X-Request-Id", "Retry-After", "X-Ratelimit-Limit", "Request-Id"} {
			for _, text := range all {
				w.Header().Add(name, "id "+text)
			}
		}
		w.Header().Set("Content-Type", "text/plain; note=\""+all["JSON"]+"\"")
		for _, name := range []string{
			"Set-Cookie", "Location", "Refresh", "Link", "X-Echo", "Www-Authenticate", "Server", "Etag", "Last-Modified", "Content-Md5", "Digest", "Repr-Digest", "Content-Digest",
			"Want-Digest", "Content-Range", "Accept-Ranges", "Content-Disposition", "Content-Location", "Alt-Svc", "X-Goog-Hash", "Aivault-Answer", "Aivault-Error", "Trailer",
		} {
			w.Header().Set(name, "X-"+echoed)
		}
		_, _ = io.WriteString(w, "it is "+echoed)
	})})
	acme(t, v, echoed, bearer())
	answer, body, err := v.Invoke(get("acme/all", "/x"))
	if err != nil || body != "it is [redacted]" {
		t.Fatalf("%q, %v", body, err)
	}
	if answer.Length != -1 {
		t.Errorf("a length of %d is told", answer.Length)
	}
	for name, values := range answer.Header {
		switch name {
		case "X-Request-Id", "Retry-After", "X-Ratelimit-Limit", "Request-Id", "Content-Type":
			if text := strings.Join(values, " "); trace(text) || !strings.Contains(text, "[redacted]") {
				t.Errorf("%s: %q", name, values)
			}
		default:
			t.Errorf("%s is passed on: %q", name, values)
		}
	}
	finished := aivaulttest.Events(v.Records(t), audit.CallFinished)
	noted := aivaulttest.Events(v.Records(t), audit.EchoRedacted)
	if len(finished) != 1 || len(noted) != 1 || finished[0]["redactions"] != noted[0]["redactions"] || finished[0]["redactions"] == nil {
		t.Errorf("recorded: %v, %v", finished, noted)
	}
}

// A body that is packed and does not say so is passed on as it is, unless a
// secret is in it.
func TestAPackedAnswerIsLookedInto(t *testing.T) {
	var body atomic.Pointer[[]byte]
	v := start(t, aivaulttest.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(*body.Load())
	})})
	acme(t, v, echoed, bearer())
	for _, how := range []string{"gzip", "zlib", "zstd"} {
		for name, text := range echoes() {
			for layers := range 2 {
				b := compressed(t, how, "it is "+text)
				if layers == 1 {
					b = compressed(t, "gzip", string(b))
				}
				body.Store(&b)
				_, got, err := v.Invoke(get("acme/all", "/x"))
				if api.CodeOf(err) != api.PolicyViolation || len(got) > len(b)-len(echoed)/2 {
					t.Errorf("%s in %s, %d layers more: %d of %d bytes, %v", name, how, layers, len(got), len(b), err)
				}
			}
		}
		finished := aivaulttest.Events(v.Records(t), audit.CallFinished)
		last := finished[len(finished)-1]
		if last["code"] != string(api.PolicyViolation) || last["redactions"] == nil || len(aivaulttest.Events(v.Records(t), audit.EchoRedacted)) != len(finished) {
			t.Errorf("%s: recorded %v", how, last)
		}
	}
	for _, how := range []string{"gzip", "zlib", "zstd"} {
		b := compressed(t, how, strings.Repeat("nothing to see ", 5000)+echoed[1:])
		body.Store(&b)
		if _, got, err := v.Invoke(get("acme/all", "/x")); err != nil || got != string(b) {
			t.Errorf("%s without a secret: %d of %d bytes, %v", how, len(got), len(b), err)
		}
	}
	for want, b := range map[api.Code][]byte{
		api.ResponseTooLarge:    compressed(t, "gzip", strings.Repeat("0", 8<<20)),
		api.UpstreamUnreachable: {0x28, 0xb5, 0x2f, 0xfd, 0, 0x80, 9, 0, 0, 'x'}, // of a window of 64 MiB
	} {
		body.Store(&b)
		if _, _, err := v.Invoke(get("acme/all", "/x")); api.CodeOf(err) != want {
			t.Errorf("want %s: %v", want, err)
		}
	}
}

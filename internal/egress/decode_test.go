package egress

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"moldable.sh/aivault/internal/api"
)

func packed(t testing.TB, encoding string, plain []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	switch encoding {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "zlib":
		w = zlib.NewWriter(&out)
	case "raw":
		w, _ = flate.NewWriter(&out, flate.BestSpeed)
	}
	_, _ = w.Write(plain)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestContentEncoding(t *testing.T) {
	text := []byte(strings.Repeat("The quick brown fox. ", 1000))
	gz := packed(t, "gzip", text)
	half := bytes.Repeat([]byte{0}, 1<<19)
	for _, tt := range []struct {
		name      string
		encodings []string
		body      []byte
		want      []byte
		code      api.Code // "" is success
		msg       string
	}{
		{"none", nil, text, text, "", ""},
		{"identity", []string{"identity"}, text, text, "", ""},
		{"gzip", []string{"gzip"}, gz, text, "", ""},
		{"GZIP, identity", []string{" GZIP , identity", ""}, gz, text, "", ""},
		{"x-gzip", []string{"x-gzip"}, gz, text, "", ""},
		{"gzip in two members", []string{"gzip"}, append(bytes.Clone(gz), gz...), append(bytes.Clone(text), text...), "", ""},
		{"deflate", []string{"deflate"}, packed(t, "zlib", text), text, "", ""},
		{"deflate, raw", []string{"deflate"}, packed(t, "raw", text), text, "", ""},
		{"gzip of nothing", []string{"gzip"}, packed(t, "gzip", nil), nil, "", ""},
		{"gzip, no body", []string{"gzip"}, nil, nil, "", ""},
		{"regular but small", []string{"gzip"}, packed(t, "gzip", half), half, "", ""},
		{"br", []string{"br"}, text, nil, api.UpstreamUnreachable, "br"},
		{"zstd", []string{"zstd"}, text, nil, api.UpstreamUnreachable, "zstd"},
		{"unknown", []string{"sk-secret"}, text, nil, api.UpstreamUnreachable, "not known"},
		{"doubled", []string{"gzip, gzip"}, packed(t, "gzip", gz), nil, api.UpstreamUnreachable, "twice"},
		{"doubled in two lines", []string{"gzip", "deflate"}, gz, nil, api.UpstreamUnreachable, "twice"},
		{"not gzip", []string{"gzip"}, text, nil, api.UpstreamUnreachable, "Content-Encoding"},
		{"not deflate", []string{"deflate"}, []byte("\xff\xff\xff"), nil, api.UpstreamUnreachable, "Content-Encoding"},
		{"half a header", []string{"gzip"}, gz[:5], nil, api.UpstreamUnreachable, "Content-Encoding"},
		{"half a body", []string{"gzip"}, gz[:len(gz)-20], nil, api.UpstreamUnreachable, "Content-Encoding"},
		{"wrong checksum", []string{"gzip"}, append(bytes.Clone(gz[:len(gz)-8]), 1, 2, 3, 4, 5, 6, 7, 8), nil, api.UpstreamUnreachable, "Content-Encoding"},
		{"gzip and more", []string{"gzip"}, append(bytes.Clone(gz), "more"...), nil, api.UpstreamUnreachable, "Content-Encoding"},
		{"deflate and more", []string{"deflate"}, append(packed(t, "raw", text), "more"...), nil, api.UpstreamUnreachable, "Content-Encoding"},
		{"bomb", []string{"gzip"}, packed(t, "gzip", bytes.Repeat([]byte{0}, 4<<20)), nil, api.ResponseTooLarge, "expands"},
		{"deflate bomb", []string{"deflate"}, packed(t, "zlib", bytes.Repeat([]byte{0}, 4<<20)), nil, api.ResponseTooLarge, "expands"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			up := startAPI(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Encoding"] = tt.encodings
				_, _ = w.Write(tt.body)
			}))
			c := newClient(t, Config{})
			resp, err := send(t, c, up.to, "GET", "/", Additions{}, Body{})
			if err == nil {
				defer resp.Body.Close()
				var b []byte
				b, err = io.ReadAll(iotest.HalfReader(resp.Body))
				if tt.code == "" && !bytes.Equal(b, tt.want) {
					t.Errorf("%d bytes, want %d", len(b), len(tt.want))
				}
				if len(b) > 2<<20 {
					t.Errorf("%d bytes came out of the bomb", len(b))
				}
			}
			if tt.code != "" {
				wantCode(t, err, tt.code, tt.msg)
				if strings.Contains(err.Error(), "sk-secret") {
					t.Errorf("%q repeats the upstream", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(tt.encodings) > 0 && strings.Contains(strings.ToLower(tt.encodings[0]), "gzip") &&
				(resp.Header.Get("Content-Encoding") != "" || resp.Header.Get("Content-Length") != "" || resp.Length != -1) {
				t.Errorf("header %v, length %d", resp.Header, resp.Length)
			}
		})
	}
}

func TestNoBodyIsNotDecoded(t *testing.T) {
	up := startAPI(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "br")
		if r.URL.Path == "/204" {
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	c := newClient(t, Config{})
	for method, target := range map[string]string{"HEAD": "/", "GET": "/204"} {
		resp, err := send(t, c, up.to, method, target, Additions{}, Body{})
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); len(b) != 0 || err != nil || resp.Header.Get("Content-Encoding") != "br" {
			t.Errorf("%s: %q %v %v", method, b, err, resp.Header)
		}
		resp.Body.Close()
	}
}

// The connection of a compressed answer is used again, and its trailer is
// there: the wire was read to its end.
func TestCompressedAnswerFreesItsConnection(t *testing.T) {
	for _, encoding := range []string{"gzip", "zlib", "raw"} {
		body := packed(t, encoding, []byte("hello"))
		name := map[string]string{"gzip": "gzip", "zlib": "deflate", "raw": "deflate"}[encoding]
		up := startAPI(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", name)
			w.Header().Set("Trailer", "X-From")
			_, _ = w.Write(body)
			_ = http.NewResponseController(w).Flush()
			w.Header().Set("X-From", r.RemoteAddr)
		}))
		c := h1Only(t, newClient(t, Config{}), up.to)
		var from [2]string
		for i := range from {
			resp, text := get(t, c, up.to, "/")
			if from[i] = resp.Trailer().Get("X-From"); text != "hello" || from[i] == "" {
				t.Errorf("%s: %q, trailer %v", encoding, text, resp.Trailer())
			}
		}
		if from[0] != from[1] {
			t.Errorf("%s: the connection was not used again", encoding)
		}
	}
}

// FuzzUnpack: no bytes of an upstream panic the decoder, and what comes out
// stays within the bound.
func FuzzUnpack(f *testing.F) {
	f.Add("gzip", packed(f, "gzip", []byte("hello")))
	f.Add("deflate", packed(f, "zlib", []byte("hello")))
	f.Add("deflate", packed(f, "raw", []byte("hello")))
	f.Fuzz(func(t *testing.T, encoding string, b []byte) {
		if encoding != "gzip" {
			encoding = "deflate"
		}
		c := New(Config{})
		p := &pool{name: "h"}
		call := newCall(t.Context(), c, p)
		p.active++
		defer call.close()
		body := &answerBody{call: call, wire: io.NopCloser(bytes.NewReader(b))}
		resp := &http.Response{StatusCode: 200, Header: http.Header{"Content-Encoding": {encoding}}}
		if err := body.decode("GET", resp); err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, body)
		if n > 1<<20+64<<10 && n/200 > int64(len(b)) {
			t.Errorf("%d bytes out of %d", n, len(b))
		}
		if err != nil && api.CodeOf(err) == api.Internal {
			t.Errorf("error %v", err)
		}
	})
}

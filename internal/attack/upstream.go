package attack

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"moldable.sh/aivault/internal/standin"
)

// What the hostile upstream does.

// respond writes parts, each in a TLS record of its own, and closes.
func respond(parts ...string) standin.Act {
	return func(conn net.Conn, _ *standin.Taken) bool {
		for _, p := range parts {
			if _, err := io.WriteString(conn, p); err != nil {
				return false
			}
		}
		return false
	}
}

// keep is respond for whole answers, after which the connection goes on.
func keep(parts ...string) standin.Act {
	act := respond(parts...)
	return func(conn net.Conn, r *standin.Taken) bool { act(conn, r); return true }
}

// sized is a whole answer with its length.
func sized(status, header, body string) standin.Act {
	return keep(fmt.Sprintf("HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s", status, len(body), header, body))
}

// chunked sends each part as a chunk and a TLS record of its own.
func chunked(header, trailer string, parts ...string) standin.Act {
	all := []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + header + "\r\n"}
	for _, p := range parts {
		if p != "" {
			all = append(all, fmt.Sprintf("%x\r\n%s\r\n", len(p), p))
		}
	}
	return keep(append(all, "0\r\n"+trailer+"\r\n")...)
}

// slowly writes a text byte by byte.
func slowly(text string, pause time.Duration) standin.Act {
	return func(conn net.Conn, _ *standin.Taken) bool {
		for i := range len(text) {
			if _, err := conn.Write([]byte{text[i]}); err != nil {
				return false
			}
			time.Sleep(pause)
		}
		return false
	}
}

// endlessly writes a head, and then a text again and again, until nobody
// reads.
func endlessly(head, text string, pause time.Duration) standin.Act {
	return func(conn net.Conn, _ *standin.Taken) bool {
		_, err := io.WriteString(conn, head)
		for err == nil {
			_, err = io.WriteString(conn, text)
			time.Sleep(pause)
		}
		return false
	}
}

// silently answers nothing until the caller is gone.
func silently(conn net.Conn, _ *standin.Taken) bool {
	_, _ = io.Copy(io.Discard, conn) // ends when the other side closes
	return false
}

func gzipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text) // into memory
	_ = w.Close()
	return b.String()
}

func zlibbed(text string) string {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

func deflated(text string) string {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.DefaultCompression)
	if err != nil {
		return ""
	}
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

// letters cuts a text into its bytes.
func letters(text string) []string { return strings.Split(text, "") }

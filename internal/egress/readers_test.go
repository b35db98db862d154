package egress

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A reading is what a reader makes of a request's target.
type reading struct {
	host   string
	path   string   // its escapes undone
	params []string // names, their escapes undone
}

// A reader reads targets as the servers do that are built on it.
type reader struct {
	name string
	read func(targets []string) ([]*reading, error) // nil: refused
}

// readers are those that are here. The standard library's is always; with
// AIVAULT_TEST_FULL the others have to be.
func readers(t testing.TB) []reader {
	t.Helper()
	all := []reader{{"net/http", netHTTP}}
	for _, other := range []struct {
		name, program string
		start         func(testing.TB, string) reader
	}{{"WHATWG URL (node)", "node", startNode}, {"nginx", "nginx", startNginx}} {
		path, err := exec.LookPath(other.program)
		if err != nil {
			path, err = exec.LookPath("/usr/sbin/" + other.program)
		}
		switch {
		case err == nil:
			r := other.start(t, path)
			r.name = other.name
			all = append(all, r)
		case os.Getenv("AIVAULT_TEST_FULL") == "1":
			t.Fatalf("%s is not installed: %v", other.program, err)
		default:
			t.Logf("%s is not installed: how %s reads what was judged is not compared", other.program, other.name)
		}
	}
	return all
}

// netHTTP reads as Go's own server does.
func netHTTP(targets []string) ([]*reading, error) {
	all := make([]*reading, len(targets))
	for i, target := range targets {
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: " + testHost + "\r\n\r\n")))
		if err != nil {
			continue
		}
		r := &reading{host: req.Host, path: req.URL.Path}
		values, err := url.ParseQuery(req.URL.RawQuery)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", target, err)
		}
		for name := range values {
			r.params = append(r.params, name)
		}
		all[i] = r
	}
	return all, nil
}

// nodeScript reads a target a line, and answers with what it made of it.
const nodeScript = `
const lines = require('readline').createInterface({input: process.stdin, terminal: false});
lines.on('line', line => {
  let answer = null;
  try {
    const u = new URL(JSON.parse(line), 'https://` + testHost + `');
    answer = {host: u.host, path: decodeURIComponent(u.pathname), params: [...u.searchParams.keys()]};
    if (u.hash !== '' || u.protocol !== 'https:' || u.username !== '') answer.host = 'elsewhere: ' + u.href;
  } catch (e) {}
  process.stdout.write(JSON.stringify(answer) + '\n');
});`

func startNode(t testing.TB, path string) reader {
	t.Helper()
	cmd := exec.Command(path, "-e", nodeScript)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() // its readline ends with its input
	})
	out := bufio.NewReaderSize(pipe, 1<<20)
	var mu sync.Mutex
	return reader{read: func(targets []string) ([]*reading, error) {
		mu.Lock()
		defer mu.Unlock()
		go func() {
			w := bufio.NewWriter(in)
			for _, target := range targets {
				line, _ := json.Marshal(target)
				_, _ = w.Write(append(line, '\n'))
			}
			_ = w.Flush()
		}()
		all := make([]*reading, len(targets))
		for i := range targets {
			line, err := out.ReadBytes('\n')
			if err != nil {
				return nil, err
			}
			var r *struct {
				Host, Path string
				Params     []string
			}
			if err := json.Unmarshal(line, &r); err != nil {
				return nil, err
			}
			if r != nil {
				all[i] = &reading{r.Host, r.Path, r.Params}
			}
		}
		return all, nil
	}}
}

// nginxConfig answers with how a location is chosen: the path after nginx has
// undone escapes, dot segments and doubled slashes.
const nginxConfig = `daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error.log crit;
events { worker_connections 64; }
http {
  access_log off; default_type text/plain; keepalive_requests 1000000; keepalive_timeout 600s; large_client_header_buffers 4 64k; client_header_timeout 600s;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
  server { listen unix:%[1]s/socket; location / { return 200 "$host\n$uri\n$args"; } }
}`

func startNginx(t testing.TB, path string) reader {
	t.Helper()
	dir, err := os.MkdirTemp("", "aivault-nginx") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	config := filepath.Join(dir, "conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, nginxConfig, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-p", dir, "-c", config, "-e", filepath.Join(dir, "error.log"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var conn net.Conn
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if conn, err = net.Dial("unix", filepath.Join(dir, "socket")); err == nil {
			break
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			t.Fatalf("nginx does not start: %v\n%s", err, log)
		}
	}
	t.Cleanup(func() { conn.Close() })
	r := bufio.NewReader(conn)
	var mu sync.Mutex
	return reader{read: func(targets []string) ([]*reading, error) {
		mu.Lock()
		defer mu.Unlock()
		all := make([]*reading, len(targets))
		for i, target := range targets {
			if _, err := io.WriteString(conn, "GET "+target+" HTTP/1.1\r\nHost: "+testHost+"\r\n\r\n"); err != nil {
				return nil, fmt.Errorf("%q: %w", target, err)
			}
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", target, err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusOK {
				return nil, fmt.Errorf("%q: status %d, %w", target, resp.StatusCode, err)
			}
			parts := strings.SplitN(string(body), "\n", 3)
			all[i] = &reading{host: parts[0], path: parts[1]}
			for pair := range strings.SplitSeq(parts[2], "&") {
				name, _, _ := strings.Cut(pair, "=")
				if plain, err := url.QueryUnescape(name); err == nil {
					name = plain
				}
				all[i].params = append(all[i].params, name)
			}
		}
		return all, nil
	}}
}

package peer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	stat   = "42 (agent) S 1 42 42 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 98765 0 0 18446744073709551615\n"
	status = "Name:\tagent\nUmask:\t0022\nUid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000\nNSpid:\t42\n"
	uidMap = "         0          0 4294967295\n"
)

// proc writes a proc file system with one process, and this one as self.
func proc(t *testing.T, files map[string]string, links map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range links {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, p); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestReadProcess(t *testing.T) {
	good := func(change func(files, links map[string]string)) string {
		files := map[string]string{"42/stat": stat, "42/status": status, "42/uid_map": uidMap, "self/uid_map": uidMap}
		links := map[string]string{"self/ns/user": "user:[1]", "42/ns/user": "user:[1]"}
		change(files, links)
		return proc(t, files, links)
	}
	for _, c := range []struct {
		name      string
		pid       int32
		change    func(files, links map[string]string)
		contained bool
	}{
		{"plain", 42, func(f, l map[string]string) {}, false},
		{"namespace link unreadable", 42, func(f, l map[string]string) { delete(l, "42/ns/user") }, false},
		{"spaces in uid_map", 42, func(f, l map[string]string) { f["42/uid_map"] = "0 0 4294967295\n" }, false},
		{"pid 0", 0, func(f, l map[string]string) {}, true},
		{"negative pid", -1, func(f, l map[string]string) {}, true},
		{"another pid", 43, func(f, l map[string]string) {}, true},
		{"no status", 42, func(f, l map[string]string) { delete(f, "42/status") }, true},
		{"no stat", 42, func(f, l map[string]string) { delete(f, "42/stat") }, true},
		{"no uid_map", 42, func(f, l map[string]string) { delete(f, "42/uid_map") }, true},
		{"no own uid_map", 42, func(f, l map[string]string) { delete(f, "self/uid_map") }, true},
		{"two pid namespaces", 42, func(f, l map[string]string) {
			f["42/status"] = strings.Replace(status, "NSpid:\t42", "NSpid:\t42\t7", 1)
		}, true},
		{"no NSpid", 42, func(f, l map[string]string) { f["42/status"] = strings.Replace(status, "NSpid:\t42\n", "", 1) }, true},
		{"empty NSpid", 42, func(f, l map[string]string) { f["42/status"] = strings.Replace(status, "NSpid:\t42", "NSpid:", 1) }, true},
		{"two NSpid lines", 42, func(f, l map[string]string) { f["42/status"] = status + "NSpid:\t42\n" }, true},
		{"map of a user namespace", 42, func(f, l map[string]string) { f["42/uid_map"] = "0 1000 1\n" }, true},
		{"root mapped to root", 42, func(f, l map[string]string) { f["42/uid_map"] = "0 0 1\n" }, true},
		{"more lines", 42, func(f, l map[string]string) { f["42/uid_map"] = uidMap + "1 100000 65536\n" }, true},
		{"same map, another namespace", 42, func(f, l map[string]string) { l["42/ns/user"] = "user:[2]" }, true},
		{"huge status", 42, func(f, l map[string]string) { f["42/status"] = status + strings.Repeat("x", maxProcFile) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := readProcess(good(c.change), c.pid)
			if p.contained != c.contained {
				t.Errorf("contained is %v: %+v", p.contained, p)
			}
			if !c.contained && (p.comm != "agent" || p.startedAt != 98765) {
				t.Errorf("read %+v", p)
			}
		})
	}
}

func TestParseStat(t *testing.T) {
	tail := " S 1 42 42 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 777 0 0\n"
	for _, c := range []struct {
		in, comm string
		started  int64
		ok       bool
	}{
		{"42 (a)" + tail, "a", 777, true},
		{"42 (a b) c)" + tail, "a b) c", 777, true},
		{"42 (a) R 1 2 3 4 (b)" + tail, "a) R 1 2 3 4 (b", 777, true},
		{"42 ()" + tail, "", 777, true},
		{"", "", 0, false},
		{")(", "", 0, false},
		{"42 (a) S 1 2", "", 0, false},
		{"42 (a)" + strings.Replace(tail, "777", "-1", 1), "", 0, false},
		{"42 (a)" + strings.Replace(tail, "777", "99999999999999999999", 1), "", 0, false},
	} {
		comm, started, err := parseStat([]byte(c.in))
		if (err == nil) != c.ok || comm != c.comm || started != c.started {
			t.Errorf("%q: %q %d %v", c.in, comm, started, err)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte(stat))
	f.Add([]byte("1 (a) b) S"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if comm, started, err := parseStat(b); err != nil && (comm != "" || started != 0) {
			t.Errorf("an error came with %q %d", comm, started)
		} else if started < 0 {
			t.Errorf("started at %d", started)
		}
	})
}

func FuzzParseStatus(f *testing.F) {
	f.Add([]byte(status))
	f.Add([]byte("NSpid:\t1\t2\nUid:\t0\t0\t0\t0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		levels, uids, err := parseStatus(b)
		if err == nil && (levels < 1 || len(uids) != 4 || strings.Count(string(b), "NSpid:") < 1) {
			t.Errorf("%q gave %d levels, uids %v", b, levels, uids)
		}
	})
}

package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// callsOf is where the sessions of a test's log are.
func callsOf(cfg Config) string { return filepath.Join(filepath.Dir(cfg.Dir), "calls") }

func session(t testing.TB, l *Log) *Session {
	t.Helper()
	s, err := l.OpenSession(t.Context(), callsOf(l.cfg))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func allowed(id string) Record {
	r := sample(1)
	r.RequestID = id
	return r
}

func finished(id string) Record {
	r := allowed(id)
	r.Event, r.Secrets, r.Status = CallFinished, nil, 200
	return r
}

// outcomes are the codes of the outcomes of each call that the log has as
// allowed, and of any other that it has an outcome of.
func outcomes(t testing.TB, l *Log) map[string][]string {
	t.Helper()
	of := map[string][]string{}
	if _, err := l.Walk(Head{}, func(line []byte, _ Head) error {
		r, err := ParseLine(line)
		switch {
		case err != nil:
			return err
		case r.Event == CallAllowed:
			if of[r.RequestID] != nil {
				t.Errorf("%s is allowed twice, or finished before", r.RequestID)
			}
			of[r.RequestID] = []string{}
		case r.Event == CallFinished:
			if of[r.RequestID] == nil {
				t.Errorf("%s has an outcome and was not allowed", r.RequestID)
			}
			of[r.RequestID] = append(of[r.RequestID], r.Code)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return of
}

// eachOnce fails unless every call has one outcome; it counts the unknown ones.
func eachOnce(t testing.TB, l *Log) (calls, unknown int) {
	t.Helper()
	for id, codes := range outcomes(t, l) {
		if calls++; len(codes) != 1 {
			t.Errorf("call %s has the outcomes %q", id, codes)
		} else if codes[0] == UnknownOutcome {
			unknown++
		}
	}
	return calls, unknown
}

func sessionFiles(t testing.TB, cfg Config) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(callsOf(cfg))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// startChild starts a child and waits until it has said a word.
func startChild(t *testing.T, cfg Config, name, until string) *exec.Cmd {
	t.Helper()
	cmd := child(t, cfg, name)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), until) {
			go func() {
				for lines.Scan() {
				}
			}()
			return cmd
		}
	}
	t.Fatalf("the child ended before it said %q", until)
	return nil
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	_ = cmd.Process.Kill()
	if err := cmd.Wait(); err == nil {
		t.Error("the child ended by itself")
	}
}

// Processes that are killed while they make many calls at once, recovered by
// several at once: every call has one outcome.
func TestKilledCallersAreRecoveredOnce(t *testing.T) {
	if l, name, ok := asChild(t); ok {
		s := session(t, l)
		var ended sync.WaitGroup
		for w := range 16 {
			ended.Go(func() {
				for i := 0; ; i++ {
					id := fmt.Sprintf("%s-%d-%d", name, w, i)
					var c OpenCall
					if err := s.Allow(context.Background(), &c, allowed(id)); err != nil {
						t.Error(err)
						return
					}
					if w == 0 && i == 20 {
						fmt.Println("busy")
					}
					if w%4 == 1 && i > 3 {
						select {} // a stream that goes on
					}
					if err := s.Finish(&c, finished(id)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		ended.Wait()
		return
	}
	cfg := config(t)
	l := create(t, cfg)
	// One that lives on, of whom nobody may say anything.
	alive := session(t, l)
	var mine OpenCall
	if err := alive.Allow(t.Context(), &mine, allowed("mine")); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		children := []*exec.Cmd{startChild(t, cfg, fmt.Sprint(round, "a"), "busy"), startChild(t, cfg, fmt.Sprint(round, "b"), "busy")}
		for _, c := range children {
			kill(t, c)
		}
		var both sync.WaitGroup
		for range 3 {
			other := open(t, cfg)
			both.Go(func() {
				if _, err := other.Recover(context.Background(), callsOf(cfg)); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
	}
	if codes := outcomes(t, l)["mine"]; len(codes) != 0 {
		t.Errorf("a call that runs has the outcome %q", codes)
	}
	if err := alive.Finish(&mine, finished("mine")); err != nil {
		t.Fatal(err)
	}
	if err := alive.Close(); err != nil {
		t.Fatal(err)
	}
	calls, unknown := eachOnce(t, l)
	if calls < 100 || unknown < 3*2*4 {
		t.Errorf("%d calls, %d of them with an unknown outcome", calls, unknown)
	}
	if left := sessionFiles(t, cfg); len(left) != 0 {
		t.Errorf("left over: %q", left)
	}
}

// A recoverer that is killed leaves the rest to the next, and nothing twice.
func TestAKilledRecovererIsRecovered(t *testing.T) {
	const calls = 1500
	if l, name, ok := asChild(t); ok {
		if name == "recover" {
			fmt.Println("begins")
			_, err := l.Recover(context.Background(), callsOf(l.cfg))
			fmt.Println("ended", err)
			select {}
		}
		s := session(t, l)
		for i := range calls {
			if err := s.Allow(context.Background(), new(OpenCall), allowed(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		fmt.Println("all open")
		select {}
	}
	cfg := config(t)
	l := create(t, cfg)
	kill(t, startChild(t, cfg, "calls", "all open"))
	between := 0
	for range 5 {
		recoverer := startChild(t, cfg, "recover", "begins")
		// It is killed as soon as it has written something, or is done.
		before, _ := l.Walk(Head{}, nil)
		for {
			now, err := l.Walk(before, nil)
			if err != nil {
				t.Fatal(err)
			}
			if now.Seq > before.Seq || len(sessionFiles(t, cfg)) == 0 {
				break
			}
		}
		kill(t, recoverer)
		if len(sessionFiles(t, cfg)) > 0 {
			between++
		}
	}
	if _, err := l.Recover(t.Context(), callsOf(cfg)); err != nil {
		t.Fatal(err)
	}
	if n, unknown := eachOnce(t, l); n != calls || unknown != calls {
		t.Errorf("%d calls, %d unknown", n, unknown)
	}
	t.Logf("%d recoverers were killed before they were done", between)
	if left := sessionFiles(t, cfg); len(left) != 0 {
		t.Errorf("left over: %q", left)
	}
}

// What is known of a call goes into its unknown outcome.
func TestAnUnknownOutcomeSaysWhatIsKnown(t *testing.T) {
	r := allowed("a")
	r.Session, r.Set, r.Binding, r.Grants, r.Provider = "S", "a/*", "b", []string{"g"}, "p"
	got := unknown(&Line{Record: r})
	if got.Event != CallFinished || got.Code != UnknownOutcome || got.Reason == "" || got.Session != "" || got.Secrets != nil {
		t.Errorf("%+v", got)
	}
	if got.RequestID != "a" || got.Caller != r.Caller || got.Capability != r.Capability || got.Host != r.Host || got.Binding != "b" || got.Grants[0] != "g" {
		t.Errorf("%+v", got)
	}
}

// How far a session's file says that nothing is open: never beyond the oldest
// call that is, and not far behind it.
func TestThePositionFollowsTheCalls(t *testing.T) {
	cfg := config(t)
	l := create(t, cfg)
	add(t, l, 1, 3)
	s := session(t, l)
	at := func() Head {
		t.Helper()
		s.busy.Wait() // the position is written beside the calls
		b, err := os.ReadFile(s.path)
		if err != nil || len(b) != positionSize || b[len(b)-1] != '\n' {
			t.Fatalf("%q, %v", b, err)
		}
		return decodePosition(b)
	}
	if h := at(); h.Seq != 3 {
		t.Errorf("at the start: %+v", h)
	}
	calls := func(n int) {
		t.Helper()
		for i := range n {
			var c OpenCall
			id := fmt.Sprint("c", i)
			if err := errors.Join(s.Allow(t.Context(), &c, allowed(id)), s.Finish(&c, finished(id))); err != nil {
				t.Fatal(err)
			}
		}
	}
	calls(10)
	var long OpenCall
	if err := s.Allow(t.Context(), &long, allowed("long")); err != nil {
		t.Fatal(err)
	}
	calls(positionEvery)
	if h := at(); h.Seq != 3+20 {
		t.Errorf("with a call open since line 24: %+v", h)
	}
	if open, err := l.openCalls(t.Context(), map[string]Head{s.id: at()}); err != nil || len(open) != 1 || open["long"].Seq != 24 {
		t.Errorf("open: %v, %v", open, err)
	}
	if err := s.Finish(&long, finished("long")); err != nil {
		t.Fatal(err)
	}
	calls(positionEvery)
	if h := at(); h.Seq < 2*positionEvery {
		t.Errorf("with none open: %+v", h)
	}
}

func TestDamagedSessionFiles(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		unknown int
	}{
		"none at all":      {"", 0}, // no call was made before it is there
		"cut off":          {`{"seq":1,"ha`, 1},
		"zeros":            {strings.Repeat("\x00", positionSize), 1},
		"no position":      {`[]`, 1},
		"unknown segment":  {`{"seq":1,"hash":"` + strings.Repeat("0", 64) + `","file":"00000009.jsonl","offset":10}`, 1},
		"another's line":   {`{"seq":1,"hash":"` + strings.Repeat("0", 64) + `","file":"00000001.jsonl","offset":10}`, 1},
		"beyond the end":   {`{"seq":900,"hash":"` + strings.Repeat("0", 64) + `","file":"00000001.jsonl","offset":9000000}`, 1},
		"a path elsewhere": {`{"seq":1,"hash":"` + strings.Repeat("0", 64) + `","file":"../../etc/passwd","offset":10}`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			l := create(t, cfg)
			s := session(t, l)
			if err := s.Allow(t.Context(), new(OpenCall), allowed("a")); err != nil {
				t.Fatal(err)
			}
			s.lock.Release() // as a kill does
			s.closed = true
			if err := os.WriteFile(s.path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, foreign := range []string{"README", strings.Repeat("a", 26), strings.Repeat("A", 27)} {
				if err := os.WriteFile(filepath.Join(callsOf(cfg), foreign), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			n, err := l.Recover(t.Context(), callsOf(cfg))
			if n != c.unknown || err != nil {
				t.Errorf("%d calls, %v", n, err)
			}
			if again, err := l.Recover(t.Context(), callsOf(cfg)); again != 0 || err != nil {
				t.Errorf("a second time %d calls, %v", again, err)
			}
			if left := sessionFiles(t, cfg); len(left) != 3 {
				t.Errorf("left over: %q", left)
			}
		})
	}
}

// A log that was changed is not written to on the strength of what it says.
func TestAChangedLogIsNotRecovered(t *testing.T) {
	cfg := config(t)
	l := create(t, cfg)
	s := session(t, l)
	if err := s.Allow(t.Context(), new(OpenCall), allowed("a")); err != nil {
		t.Fatal(err)
	}
	add(t, l, 1, 3)
	s.lock.Release()
	s.closed = true
	data := read(t, current(cfg))
	if err := os.WriteFile(current(cfg), bytes.Replace(data, []byte(`openai`), []byte(`openbi`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	var chain *ChainError
	if n, err := l.Recover(t.Context(), callsOf(cfg)); n != 0 || !errors.As(err, &chain) {
		t.Errorf("%d, %v", n, err)
	}
	if left := sessionFiles(t, cfg); len(left) != 1 {
		t.Errorf("left over: %q", left)
	}
}

// What ends with its process in order leaves nothing; what does not leaves its
// file, and cannot write an outcome any more that another may have written.
func TestSessionsEnd(t *testing.T) {
	cfg := config(t)
	l := create(t, cfg)
	dir := callsOf(cfg)
	s := session(t, l)
	var c OpenCall
	if err := errors.Join(s.Allow(t.Context(), &c, allowed("a")), s.Note(&c, Record{Event: EchoRedacted, RequestID: "a"}), s.Finish(&c, finished("a")), s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if left := sessionFiles(t, cfg); len(left) != 0 {
		t.Errorf("left over: %q", left)
	}
	if err := s.Allow(t.Context(), new(OpenCall), allowed("b")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a call of an ended session: %v", err)
	}
	s = session(t, l)
	var d OpenCall
	if err := errors.Join(s.Allow(t.Context(), &d, allowed("d")), s.Close()); err != nil {
		t.Fatal(err)
	}
	if n, err := l.Recover(t.Context(), dir); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if err := s.Finish(&d, finished("d")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("an outcome after another wrote it: %v", err)
	}
	eachOnce(t, l)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// limitFile makes every write beyond so many bytes of a file fail, as a full
// disk does. It is a limit of the whole process: a child's.
func limitFile(t *testing.T, most int64) (lift func()) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	var old syscall.Rlimit
	if err := errors.Join(syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old),
		syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(most), Max: old.Max})); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			t.Fatal(err)
		}
	}
}

// An outcome that cannot be written keeps calls from going out, and is there
// before the next.
func TestOutcomesOutliveAFullDisk(t *testing.T) {
	if l, _, ok := asChild(t); ok {
		s := session(t, l)
		var a, b, c, d OpenCall
		if err := errors.Join(s.Allow(t.Context(), &a, allowed("a")), s.Allow(t.Context(), &b, allowed("b"))); err != nil {
			t.Fatal(err)
		}
		lift := limitFile(t, int64(len(read(t, current(l.cfg)))))
		for _, err := range []error{s.Note(&a, Record{Event: EchoRedacted, RequestID: "a", Redactions: 1}), s.Finish(&a, finished("a")),
			s.Allow(t.Context(), &c, allowed("c")), s.Finish(&b, finished("b"))} {
			if !errors.Is(err, syscall.EFBIG) {
				t.Errorf("on a full disk: %v", err)
			}
		}
		lift()
		if err := errors.Join(s.Allow(t.Context(), &d, allowed("d")), s.Finish(&d, finished("d"))); err != nil {
			t.Fatal(err)
		}
		var got []string
		if _, err := l.Walk(Head{}, func(line []byte, _ Head) error {
			r, err := ParseLine(line)
			got = append(got, r.Event+" "+r.RequestID)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		want := "call.allowed a,call.allowed b,echo_redacted a,call.finished a,call.finished b,call.allowed d,call.finished d"
		if strings.Join(got, ",") != want {
			t.Errorf("got  %s\nwant %s", strings.Join(got, ","), want)
		}
		if err := s.Close(); err != nil || len(sessionFiles(t, l.cfg)) != 0 {
			t.Errorf("%v, left %q", err, sessionFiles(t, l.cfg))
		}

		// Without another call it is written all the same, after a while.
		s = session(t, l)
		var e, f OpenCall
		if err := s.Allow(t.Context(), &e, allowed("e")); err != nil {
			t.Fatal(err)
		}
		lift = limitFile(t, int64(len(read(t, current(l.cfg)))))
		if err := s.Finish(&e, finished("e")); !errors.Is(err, syscall.EFBIG) {
			t.Errorf("on a full disk: %v", err)
		}
		lift()
		for deadline := time.Now().Add(20 * time.Second); len(outcomes(t, l)["e"]) == 0 && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond)
		}
		// What a process takes with it is unknown to the next.
		if err := s.Allow(t.Context(), &f, allowed("f")); err != nil {
			t.Fatal(err)
		}
		lift = limitFile(t, int64(len(read(t, current(l.cfg)))))
		if err := s.Finish(&f, finished("f")); !errors.Is(err, syscall.EFBIG) {
			t.Errorf("on a full disk: %v", err)
		}
		if err := s.Close(); !errors.Is(err, syscall.EFBIG) || len(sessionFiles(t, l.cfg)) != 1 {
			t.Errorf("%v, left %q", err, sessionFiles(t, l.cfg))
		}
		lift()
		if n, err := l.Recover(t.Context(), callsOf(l.cfg)); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if calls, unknown := eachOnce(t, l); calls != 5 || unknown != 1 {
			t.Errorf("%d calls, %d unknown", calls, unknown)
		}
		return
	}
	cfg := config(t)
	create(t, cfg).Close()
	if out, err := child(t, cfg, "x").CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS")) {
		t.Errorf("child: %v\n%s", err, out)
	}
}

// A record whose append failed may stand in the log all the same, where not
// even taking it back worked, or only its fsync failed.
func TestDoubtfulRecordsAreWrittenOnce(t *testing.T) {
	cfg := config(t)
	l := create(t, cfg)
	s := session(t, l)
	owe := func(c *OpenCall, d debt) {
		s.mu.Lock()
		defer s.mu.Unlock()
		d.call, d.base, d.unsure = c, c.base, true
		s.owe(d)
	}
	var a, b, c, d OpenCall
	if err := errors.Join(s.Allow(t.Context(), &a, allowed("a")), s.Allow(t.Context(), &b, allowed("b")), s.Finish(&b, finished("b"))); err != nil {
		t.Fatal(err)
	}
	owe(&a, debt{record: finished("a")}) // is not there
	b.base = a.base
	owe(&b, debt{record: finished("b")}) // is
	c.base, d.base = a.base, a.base
	owe(&c, debt{record: finished("c"), ifThere: true}) // the call never came into the log
	if _, err := l.Append(t.Context(), allowed("d")); err != nil {
		t.Fatal(err)
	}
	owe(&d, debt{record: finished("d"), ifThere: true}) // it did
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if calls, _ := eachOnce(t, l); calls != 3 {
		t.Errorf("%d calls", calls)
	}

	// Of a call that was refused because its record could not be synced.
	cfg = config(t)
	cfg.Sync = true
	l = create(t, cfg)
	s = session(t, l)
	works := l.fsync
	l.syncMu.Lock()
	l.fsync = func(*os.File) error { return syscall.EIO }
	l.syncMu.Unlock()
	if err := s.Allow(t.Context(), new(OpenCall), allowed("e")); !errors.Is(err, syscall.EIO) {
		t.Errorf("%v", err)
	}
	if err := s.Allow(t.Context(), new(OpenCall), allowed("f")); !errors.Is(err, syscall.EIO) {
		t.Errorf("%v", err)
	}
	l.syncMu.Lock()
	l.fsync = works
	l.syncMu.Unlock()
	var g OpenCall
	if err := errors.Join(s.Allow(t.Context(), &g, allowed("g")), s.Finish(&g, finished("g"))); err != nil {
		t.Fatal(err)
	}
	if calls, _ := eachOnce(t, l); calls != 2 {
		t.Errorf("%d calls: %v", calls, outcomes(t, l))
	}
}

// Thousands of processes that were killed, each in the middle of a call: each
// call has its outcome, no file is left, and none is kept open meanwhile.
func TestThousandsOfSessions(t *testing.T) {
	if testing.Short() {
		t.Skip("two thousand sessions")
	}
	const many = 2000
	cfg := config(t)
	l := create(t, cfg)
	for i := range many {
		s, err := l.OpenSession(t.Context(), callsOf(cfg))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Allow(t.Context(), new(OpenCall), allowed(fmt.Sprint("call-", i))); err != nil {
			t.Fatal(err)
		}
		if err := s.lock.Release(); err != nil { // as its process would that is killed
			t.Fatal(err)
		}
	}
	began := time.Now()
	calls, err := l.Recover(t.Context(), callsOf(cfg))
	if err != nil || calls != many {
		t.Fatalf("%d calls, %v", calls, err)
	}
	t.Logf("recovered in %s", time.Since(began))
	if calls, unknown := eachOnce(t, l); calls != many || unknown != many {
		t.Errorf("%d calls, %d of an unknown outcome", calls, unknown)
	}
	if left := sessionFiles(t, cfg); len(left) > 0 {
		t.Errorf("%d sessions are left", len(left))
	}
}

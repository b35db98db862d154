package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"moldable.sh/aivault/internal/grant"
)

// picks is what filter decides, by the record as it is parsed.
func picks(q Query, line []byte) bool {
	r, err := ParseLine(line)
	if err != nil {
		return true
	}
	switch {
	case q.SinceMs != 0 && r.AtMs < q.SinceMs, q.UntilMs != 0 && r.AtMs > q.UntilMs, q.BeforeMs != 0 && r.AtMs >= q.BeforeMs:
		return false
	case q.Denied && !slices.Contains(denials[:], r.Event):
		return false
	case q.Capability != "" && (r.Capability == "" || !grant.Match(q.Capability, r.Capability)) && (r.Set == "" || !grant.Match(q.Capability, r.Set)):
		return false
	case q.Caller == "":
		return true
	case r.Caller == nil:
		return false
	}
	uid, err := strconv.ParseUint(q.Caller, 10, 32)
	return err == nil && uint32(uid) == r.Caller.UID || r.Caller.User == q.Caller
}

// odd draws texts that try to pass for something else.
func odd() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"", "openai/chat-completions", "openai/models", "slack/post", "openai", "agent", "J\u00fcrgen", "1000", "call.refused",
			`x","capability":"openai/models`, `","user":"agent","x":"`, `\`, `\"`, `a"b`, "openai/\u202e", `{"uid":1000,`, `,"set":"slack/post"`}),
		rapid.String(),
	)
}

func drawRecord(t *rapid.T) Record {
	r := Record{
		Event:      rapid.SampledFrom([]string{CallAllowed, CallFinished, CallRefused, OperatorRefused, LoginRefused, VaultUnlockFailed, SecretCreated, LogRotated}).Draw(t, "event"),
		RequestID:  odd().Draw(t, "id"),
		Capability: odd().Draw(t, "capability"), Set: odd().Draw(t, "set"), Name: odd().Draw(t, "name"), Reason: odd().Draw(t, "reason"), Path: odd().Draw(t, "path"),
	}
	if rapid.Bool().Draw(t, "caller") {
		r.Caller = &Caller{UID: rapid.SampledFrom([]uint32{0, 10, 1000, 10000, 1<<32 - 1}).Draw(t, "uid"), GID: 1000, PID: 5,
			User: odd().Draw(t, "user"), Program: odd().Draw(t, "program"), Operator: rapid.Bool().Draw(t, "operator")}
	}
	return r
}

func drawQuery(t *rapid.T, of Record) Query {
	mine := ""
	if of.Caller != nil {
		mine = of.Caller.User
	}
	at := rapid.SampledFrom([]int64{0, 0, 1, 999, 1000, 1001, 1010, 5000})
	return Query{
		SinceMs: at.Draw(t, "since"), UntilMs: at.Draw(t, "until"), BeforeMs: at.Draw(t, "before"), Denied: rapid.Bool().Draw(t, "denied"),
		Capability: rapid.OneOf(rapid.Just(""), rapid.SampledFrom([]string{"openai/*", "openai/models", "*", "*-completions", "slack/post", "**", "x", `a"b`}), odd()).Draw(t, "pattern"),
		Caller:     rapid.OneOf(rapid.Just(""), rapid.Just(mine), rapid.SampledFrom([]string{"1000", "0", "4294967295", "4294967296", "-1", "+10", "010"}), odd()).Draw(t, "who"),
	}
}

func lineOf(t testing.TB, c *chain, atMs int64, r Record) []byte {
	line := append(strconv.AppendInt(c.appendPrefix(nil), atMs, 10), ',')
	line, err := appendBody(line, &r)
	if err != nil {
		t.Fatal(err)
	}
	c.advance(line)
	return line
}

// The filter reads bytes, and decides as one that parses would.
func TestFilterIsExact(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := genesis(vaultID)
		r := drawRecord(rt)
		line := lineOf(t, &c, rapid.SampledFrom([]int64{-5, 0, 1, 1000, 1010, 4999}).Draw(rt, "at"), r)
		for range 4 {
			q := drawQuery(rt, r)
			if got, want := newFilter(q).picks(line), picks(q, line); got != want {
				rt.Fatalf("%+v picks %s: %v, want %v", q, line, got, want)
			}
		}
	})
}

// FuzzFilter: a line that parses is picked as parsing says; nothing panics.
func FuzzFilter(f *testing.F) {
	c := genesis(vaultID)
	f.Add(lineOf(f, &c, 1000, sample(1)), "openai/*", "agent", true)
	f.Add([]byte(`{"seq":1,"prev":"`), "", "1", false)
	f.Add([]byte{}, "*", "", false)
	f.Fuzz(func(t *testing.T, line []byte, capability, caller string, denied bool) {
		q := Query{Capability: capability, Caller: caller, Denied: denied, SinceMs: 5}
		got := newFilter(q).picks(line)
		r, err := ParseLine(line)
		if err != nil {
			return
		}
		// Only a line as the log writes it is read by its bytes.
		chain := chain{seq: r.Seq - 1}
		copy(chain.hash[:], r.Prev)
		if again, err := appendBody(append(strconv.AppendInt(chain.appendPrefix(nil), r.AtMs, 10), ','), &r.Record); err != nil || !bytes.Equal(again, line) {
			return
		}
		if want := picks(q, line); got != want {
			t.Fatalf("%+v picks %s: %v, want %v", q, line, got, want)
		}
	})
}

// mixed is a log of several segments, some compressed, with all kinds of
// records and clocks that go back and forth.
func mixed(t testing.TB, n int) (*Log, [][]byte) {
	t.Helper()
	cfg := small(t)
	now := int64(1_000_000)
	rng := rand.New(rand.NewPCG(1, 2))
	cfg.Clock = func() time.Time { return time.UnixMilli(now) }
	l := createSigned(t, cfg)
	for i := range n {
		now += rng.Int64N(2000) - 500
		r := sample(i)
		r.Event = []string{CallAllowed, CallFinished, CallRefused, SecretCreated}[rng.IntN(4)]
		r.Capability = []string{"openai/chat-completions", "openai/models", "slack/post"}[rng.IntN(3)]
		r.Caller = &Caller{UID: uint32(rng.IntN(3)), User: []string{"root", "agent", ""}[rng.IntN(3)]}
		if _, err := l.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.pack(t.Context()); err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	if _, err := l.Walk(Head{}, func(line []byte, _ Head) error { all = append(all, bytes.Clone(line)); return nil }); err != nil {
		t.Fatal(err)
	}
	return l, all
}

func TestFindAndExport(t *testing.T) {
	l, all := mixed(t, 60)
	if got := files(t, l.cfg); !strings.HasPrefix(got, "1z 2z 3z") {
		t.Fatal(got)
	}
	mid, err := ParseLine(all[len(all)/2])
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []Query{
		{}, {Limit: 1}, {Limit: 7}, {Limit: 1000}, {Denied: true}, {Denied: true, Limit: 3}, {Capability: "openai/*"}, {Capability: "slack/post", Limit: 5},
		{Capability: "none/such"}, {Capability: "none/such", Limit: 4}, {Caller: "1"}, {Caller: "agent", Denied: true}, {Caller: "nobody"}, {SinceMs: mid.AtMs}, {UntilMs: mid.AtMs, Limit: 4},
		{BeforeMs: mid.AtMs, Limit: 4}, {SinceMs: mid.AtMs - 5000, UntilMs: mid.AtMs + 5000}, {SinceMs: 1 << 60},
	} {
		var want [][]byte
		for _, line := range all {
			if picks(q, line) {
				want = append(want, line)
			}
		}
		if q.Limit > 0 {
			want = want[max(0, len(want)-q.Limit):]
		}
		got, err := l.Find(q)
		if err != nil || !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("Find(%+v): %d lines, want %d, %v", q, len(got), len(want), err)
		}
		var exported [][]byte
		err = l.Export(t.Context(), q, func(line []byte) error { exported = append(exported, bytes.Clone(line)); return nil })
		if err != nil || !slices.EqualFunc(exported, want, bytes.Equal) {
			t.Errorf("Export(%+v): %d lines, want %d, %v", q, len(exported), len(want), err)
		}
	}
	// The next page of older ones: together they are all, each once, where the
	// clock moved on between any two.
	stop := errors.New("stop")
	if err := l.Export(t.Context(), Query{}, func([]byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Export(ctx, Query{Limit: 3}, func([]byte) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// Of a log that was tampered with Find shows what is there, also what is no
// line; Export says where it was.
func TestFindInATamperedLog(t *testing.T) {
	l, all := mixed(t, 12)
	path := l.path
	b := read(t, path)
	if err := os.WriteFile(path, append([]byte("forged by hand\n"), b...), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, q := range []Query{{}, {Capability: "none/such"}, {Denied: true}} {
		got, err := l.Find(q)
		if err != nil || !slices.ContainsFunc(got, func(line []byte) bool { return string(line) == "forged by hand" }) {
			t.Errorf("%+v: %d lines, %v", q, len(got), err)
		}
	}
	var chain *ChainError
	n := 0
	if err := l.Export(t.Context(), Query{}, func([]byte) error { n++; return nil }); !errors.As(err, &chain) || n >= len(all) {
		t.Errorf("exported %d lines, %v", n, err)
	}
}

// A clock that was wrong for a while hides nothing, and what is long before
// the time that is asked for is not read.
func TestFindSince(t *testing.T) {
	cfg := config(t)
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	cfg.Clock = func() time.Time { return now }
	l := create(t, cfg)
	since := now.UnixMilli()
	add(t, l, 1, 3)
	now = now.Add(-30 * 365 * 24 * time.Hour)
	add(t, l, 4, 6)
	now = time.UnixMilli(since)
	add(t, l, 7, 8)
	if got, err := l.Find(Query{SinceMs: since}); err != nil || len(got) != 5 {
		t.Errorf("%d lines, %v", len(got), err)
	}
	// More than enough lines of two days before, behind what cannot be read.
	c := genesis(vaultID)
	var b bytes.Buffer
	b.WriteString(strings.Repeat("x", MaxLine+1) + "\n")
	for range sinceLines + 100 {
		b.Write(lineOf(t, &c, since-2*sinceSlackMs, Record{Event: "e"}))
		b.WriteByte('\n')
	}
	if err := os.WriteFile(current(cfg), b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := l.Find(Query{SinceMs: since}); err != nil || len(got) != 0 {
		t.Errorf("%d lines, %v", len(got), err)
	}
	if _, err := l.Find(Query{SinceMs: since - 2*sinceSlackMs}); err == nil {
		t.Error("did not read all of what was asked for")
	}
}

// Old segments may go while somebody reads.
func TestReadWhilePruned(t *testing.T) {
	l, _, _ := aged(t, 8, time.Hour)
	n := 0
	var seqs []uint64
	err := l.Export(t.Context(), Query{}, func(line []byte) error {
		if n++; n == 5 { // in the second segment
			if err := l.prune(t.Context()); err != nil {
				t.Error(err)
			}
		}
		seq, _, _ := parsePrefix(line)
		seqs = append(seqs, seq)
		return nil
	})
	if err != nil || !slices.IsSorted(seqs) || files(t, l.cfg) != "8 9" {
		t.Errorf("%v, %v, %s", seqs, err, files(t, l.cfg))
	}
	end, err := l.settledEnd(t.Context())
	if err != nil || seqs[len(seqs)-1] != end.seq {
		t.Errorf("%v, %+v, %v", seqs, end, err)
	}
	// Removed by hand in the middle, it is an error.
	l, _, _ = aged(t, 8, time.Hour)
	if err := os.Remove(filepath.Join(l.cfg.Dir, segmentName(4))); err != nil {
		t.Fatal(err)
	}
	var chain *ChainError
	if err := l.Export(t.Context(), Query{}, func([]byte) error { return nil }); !errors.As(err, &chain) || chain.File != segmentName(4) {
		t.Errorf("%v", err)
	}
	if _, err := l.Find(Query{}); !errors.As(err, &chain) || chain.File != segmentName(4) {
		t.Errorf("%v", err)
	}
}

// Export's memory does not grow with the log.
func TestExportIsFlat(t *testing.T) {
	cfg := config(t)
	segmented(t, cfg, 2_500, 2_500, 2_500)
	pack(t, cfg, 1)
	l := open(t, cfg)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n := 0
	if err := l.Export(t.Context(), Query{Capability: "openai/*"}, func([]byte) error { n++; return nil }); err != nil || n != 7_500 {
		t.Fatal(n, err)
	}
	runtime.ReadMemStats(&after)
	if grew := after.TotalAlloc - before.TotalAlloc; grew > 2<<20 {
		t.Errorf("allocated %d bytes for a log of 3.4 MB", grew)
	}
}

func follow(ctx context.Context, l *Log, q Query, fn func(line []byte) error) error {
	from, err := l.Follow(ctx, q)
	if err != nil {
		return err
	}
	return from(ctx, fn)
}

// What comes before a follower has begun to read is told to it.
func TestFollowMissesNothing(t *testing.T) {
	cfg := config(t)
	l := create(t, cfg)
	add(t, l, 1, 3)
	from, err := l.Follow(t.Context(), Query{})
	if err != nil {
		t.Fatal(err)
	}
	add(t, l, 4, 5)
	var seqs []uint64
	stop := errors.New("stop")
	if err := from(t.Context(), func(line []byte) error {
		seq, _, _ := parsePrefix(line)
		if seqs = append(seqs, seq); seq == 5 {
			return stop
		}
		return nil
	}); !errors.Is(err, stop) || !slices.Equal(seqs, []uint64{4, 5}) {
		t.Errorf("%v, %v", seqs, err)
	}
}

// following starts a follower and returns what it gives.
func following(t *testing.T, l *Log, q Query) (lines <-chan uint64, end func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, done, begun := make(chan uint64, 10_000), make(chan error, 1), len(followersOf(l))
	go func() {
		done <- follow(ctx, l, q, func(line []byte) error {
			seq, _, _ := parsePrefix(line)
			out <- seq
			return nil
		})
	}()
	for len(followersOf(l)) == begun {
		time.Sleep(time.Millisecond)
	}
	return out, func() error { cancel(); return <-done }
}

func followersOf(l *Log) []chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.followers)
}

func next(t *testing.T, lines <-chan uint64, want ...uint64) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-lines:
			if got != w {
				t.Fatalf("line %d, want %d", got, w)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("line %d did not come", w)
		}
	}
}

// Follow gives what this process and others append, over rotation,
// compression and removal, each line once and in order.
func TestFollow(t *testing.T) {
	cfg := small(t)
	l := createSigned(t, cfg)
	add(t, l, 1, 2)
	other := openSigned(t, cfg)
	lines, end := following(t, l, Query{})
	denied, endDenied := following(t, l, Query{Denied: true, Limit: 5})
	want := uint64(3)
	for i := range 30 {
		from := l
		if i%3 == 0 {
			from = other
		}
		r := sample(i)
		if i%10 == 9 {
			r.Event = CallRefused
		}
		h, err := from.Append(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		for ; want <= h.Seq; want++ { // the closing lines too
			next(t, lines, want)
		}
		if i%10 == 9 {
			next(t, denied, h.Seq)
		}
		if i == 20 {
			if err := l.pack(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := end(); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := endDenied(); !errors.Is(err, context.Canceled) || len(denied) != 0 {
		t.Errorf("%v", err)
	}
	if len(followersOf(l)) != 0 {
		t.Error("a follower was left")
	}
	// With a limit it begins with what is there.
	lines, end = following(t, l, Query{Limit: 3})
	next(t, lines, want-3, want-2, want-1)
	add(t, other, 1, 1)
	next(t, lines, want)
	// It ends with the log, and with its function.
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := end(); !errors.Is(err, os.ErrClosed) && !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	stop := errors.New("stop")
	if err := follow(t.Context(), other, Query{Limit: 1}, func([]byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}

// A follower whose reader is slow catches up, also past what was removed
// meanwhile.
func TestFollowWhilePruned(t *testing.T) {
	l, keep, now := aged(t, 1, time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first, goOn, seqs := make(chan struct{}), make(chan struct{}), make(chan uint64, 1000)
	done := make(chan error, 1)
	go func() {
		n := 0
		done <- follow(ctx, l, Query{}, func(line []byte) error {
			if n++; n == 1 {
				close(first)
				<-goOn
			}
			seq, _, _ := parsePrefix(line)
			seqs <- seq
			return nil
		})
	}()
	for len(followersOf(l)) == 0 {
		time.Sleep(time.Millisecond)
	}
	add(t, l, 1, 1)
	<-first
	for range 6 {
		*now = now.Add(24 * time.Hour)
		*keep = add(t, l, 2, 3)
	}
	if err := l.prune(ctx); err != nil {
		t.Fatal(err)
	}
	if got := files(t, l.cfg); got != "7 8" {
		t.Fatal(got)
	}
	last := add(t, l, 4, 4).Seq
	close(goOn)
	var before uint64
	for before != last {
		select {
		case seq := <-seqs:
			if seq <= before {
				t.Fatalf("line %d after %d", seq, before)
			}
			before = seq
		case err := <-done:
			t.Fatal(err)
		}
	}
	cancel()
	<-done
}

// What a full disk takes back was never followed.
func TestFollowWaitsForWhatIsSettled(t *testing.T) {
	cfg := config(t)
	l := create(t, cfg)
	add(t, l, 1, 1)
	lines, end := following(t, l, Query{})
	// Another process is in the middle of a write.
	other := open(t, cfg)
	if err := other.lock.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := genesis(vaultID)
	b := read(t, current(cfg))
	c.advance(b[:len(b)-1])
	if err := addTo(current(cfg), string(lineOf(t, &c, 1, sample(2)))+"\n"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(followPoll + followPoll/2)
	if len(lines) > 0 {
		t.Error("followed what may yet be taken back")
	}
	if err := errors.Join(os.Truncate(current(cfg), int64(len(b))), other.lock.Unlock()); err != nil {
		t.Fatal(err)
	}
	add(t, other, 3, 3)
	next(t, lines, 2)
	if err := end(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func BenchmarkFind(b *testing.B) {
	l := longInSegments(b, 1_000_000)
	for _, q := range []Query{{Limit: 200}, {Limit: 200, Capability: "openai/*"}, {Limit: 200, Capability: "openai/chat-completions", Caller: "agent"},
		{Limit: 200, Denied: true}, {Limit: 200, Caller: "1000", SinceMs: 1}, {Limit: 200, Caller: "nobody", SinceMs: 1_800_000_000_000}} {
		b.Run(strings.ReplaceAll(fmt.Sprintf("%+v", q), " ", ","), func(b *testing.B) {
			for b.Loop() {
				if got, err := l.Find(q); err != nil || len(got) != 200 && q.Caller != "nobody" {
					b.Fatal(len(got), err)
				}
			}
		})
	}
}

// A filter that matches nothing reads all of the log.
func BenchmarkFindNothing(b *testing.B) {
	l := longInSegments(b, 1_000_000)
	for b.Loop() {
		if got, err := l.Find(Query{Limit: 200, Capability: "none/such"}); err != nil || len(got) != 0 {
			b.Fatal(len(got), err)
		}
	}
}

func BenchmarkExport(b *testing.B) {
	const lines = 1_000_000
	l := longInSegments(b, lines)
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Export(context.Background(), Query{}, func(line []byte) error { _, err := io.Discard.Write(line); return err }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(lines*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}

// longInSegments is a log as a daemon leaves it: every fifth record a refusal,
// segments of 16 MiB, compressed but for the last two.
func longInSegments(b *testing.B, n int) *Log {
	b.Helper()
	const each = 40_000
	cfg := config(b)
	var samples []int
	for ; n > 0; n -= each {
		samples = append(samples, min(n, each))
	}
	segmented(b, cfg, samples...)
	l := open(b, cfg)
	if err := l.pack(context.Background()); err != nil {
		b.Fatal(err)
	}
	return l
}

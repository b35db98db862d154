package quota

import (
	"bytes"
	"math"
	"testing"
	"time"
)

// What parses is written again byte for byte, and can be counted on, in this
// boot and in another.
func FuzzParse(f *testing.F) {
	at := instant{"boot-1", int64(time.Hour), 1_760_000_000_000_000_000}
	for _, l := range []*ledger{
		{at: at},
		{at: at, full: true, fullFrom: at.boot - 5},
		{at: instant{"b", 0, -1}, counts: []count{{key: "k", starts: []int64{-5, 0}}}},
		{at: at, counts: []count{{key: "caller:1000:openai/models", starts: []int64{at.boot - window + 1, at.boot, at.boot}}, {key: "k", starts: []int64{at.boot}}}},
	} {
		doc, err := l.encode(nil)
		must(f, err)
		if _, err := parse(doc); err != nil {
			f.Fatalf("%s: %v", doc, err)
		}
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		// A fuzzer does not find sums.
		if bytes.HasPrefix(doc, []byte(beforeSum)) && len(doc) > len(beforeSum)+sumSize+len(afterSum) {
			doc = bytes.Clone(doc)
			putSum(doc, len(beforeSum)+sumSize+len(afterSum))
		}
		l, err := parse(doc)
		if err != nil {
			if err != errLost {
				t.Fatal(err)
			}
			return
		}
		again, err := l.encode(nil)
		if err != nil || !bytes.Equal(again, doc) {
			t.Fatalf("%q was read, %q is written: %v", doc, again, err)
		}
		for _, now := range []instant{{l.at.bootID, l.at.boot, l.at.wall}, {l.at.bootID, l.at.boot / 2, 0}, {"another", 0, l.at.wall + 1}, {"another", 1 << 62, l.at.wall - 1}} {
			l, err := parse(doc)
			must(t, err)
			l.rebase(now)
			all := []Demand{{"k", 1}, {"new", 3}}
			if over := l.exceeded(now, all, nil); over != nil {
				if over.Wait <= 0 || over.Wait > Window {
					t.Fatalf("%+v", over)
				}
				now.boot += int64(over.Wait)
				if l.exceeded(now, all, nil) != nil {
					t.Fatalf("%s is not enough", over.Wait)
				}
			}
			l.count(now, all, nil)
			doc, err := l.encode(nil)
			must(t, err)
			if _, err := parse(doc); err != nil {
				t.Fatalf("%q is written: %v", doc, err)
			}
			if over := l.exceeded(now, all, nil); over == nil || over.Wait != Window {
				t.Fatalf("%+v", over)
			}
		}
	})
}

// The wall clock may be anywhere.
func TestRebaseAtTheEndsOfTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		was, is int64
		wait    time.Duration
	}{
		{math.MinInt64, math.MaxInt64, 0}, {math.MaxInt64, math.MinInt64, Window}, {-1, math.MaxInt64, 0},
		{math.MinInt64, 1, 0}, {math.MinInt64, math.MinInt64 + 1, Window - 1}, {math.MaxInt64, math.MaxInt64, Window},
	} {
		l := &ledger{at: instant{"a", math.MaxInt64, c.was}, counts: []count{{key: "k", starts: []int64{math.MaxInt64}}}}
		now := instant{"b", 0, c.is}
		l.rebase(now)
		if got := l.wait(0, Demand{"k", 1}); got != c.wait {
			t.Errorf("from %d to %d: %s, want %s", c.was, c.is, got, c.wait)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	const boot = `"bootId":"b","atNs":100,"wallNs":5`
	for name, rest := range map[string]string{
		"unknown member":    boot + `,"more":1,"counts":[]}`,
		"repeated member":   boot + `,"counts":[],"counts":[]}`,
		"no counts":         boot + `}`,
		"null counts":       boot + `,"counts":null}`,
		"white space":       boot + `, "counts":[]}`,
		"another order":     `"atNs":100,"bootId":"b","wallNs":5,"counts":[]}`,
		"no boot":           `"bootId":"","atNs":100,"wallNs":5,"counts":[]}`,
		"odd boot":          `"bootId":"a b","atNs":100,"wallNs":5,"counts":[]}`,
		"negative clock":    `"bootId":"b","atNs":-1,"wallNs":5,"counts":[]}`,
		"fraction":          `"bootId":"b","atNs":1.0,"wallNs":5,"counts":[]}`,
		"full in future":    boot + `,"fullFromNs":101,"counts":[]}`,
		"full long ago":     boot + `,"fullFromNs":-59999999900,"counts":[]}`,
		"null full":         boot + `,"fullFromNs":null,"counts":[]}`,
		"start in future":   boot + `,"counts":[{"key":"k","startsNs":[101]}]}`,
		"start long ago":    boot + `,"counts":[{"key":"k","startsNs":[-59999999900]}]}`,
		"starts unsorted":   boot + `,"counts":[{"key":"k","startsNs":[2,1]}]}`,
		"no starts":         boot + `,"counts":[{"key":"k","startsNs":[]}]}`,
		"no key":            boot + `,"counts":[{"key":"","startsNs":[1]}]}`,
		"odd key":           boot + `,"counts":[{"key":"\u0041","startsNs":[1]}]}`,
		"keys unsorted":     boot + `,"counts":[{"key":"b","startsNs":[1]},{"key":"a","startsNs":[1]}]}`,
		"key twice":         boot + `,"counts":[{"key":"a","startsNs":[1]},{"key":"a","startsNs":[1]}]}`,
		"bytes after":       boot + `,"counts":[]}x`,
		"a second document": boot + `,"counts":[]}` + "\n{}",
	} {
		doc := []byte(beforeSum + "00000000" + afterSum + rest + "\n")
		putSum(doc, len(beforeSum)+sumSize+len(afterSum))
		if _, err := parse(doc); err != errLost {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := []byte(beforeSum + "00000000" + afterSum + boot + `,"fullFromNs":100,"counts":[{"key":"k","startsNs":[-59999999899,100]}]}` + "\n")
	putSum(good, len(beforeSum)+sumSize+len(afterSum))
	if _, err := parse(good); err != nil {
		t.Errorf("%s: %v", good, err)
	}
	for i := range good {
		if _, err := parse(good[:i]); err != errLost {
			t.Errorf("cut at %d: %v", i, err)
		}
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			if _, err := parse(bad); err != errLost {
				t.Errorf("bit %d of byte %d: %v", bit, i, err)
			}
		}
	}
}

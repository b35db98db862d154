package audit

import (
	"bytes"
	"testing"
)

// A power cut may leave room for lines that were not synced and yet whole ones
// behind it: all of that is the torn end, for whoever reads and whoever appends.
func TestRoomThatAPowerCutLeftEmpty(t *testing.T) {
	for hole := 5; hole <= 9; hole++ {
		for _, part := range []int{0, 60, 200} { // of the line that is still there
			cfg := config(t)
			l := create(t, cfg)
			l.SetSigner(testKey(1))
			add(t, l, 1, 4)
			sign(t, l)
			l.SetSigner(nil)
			add(t, l, 5, 10)
			l.Close()
			files := takeFiles(t, cfg.Dir)
			lines := files.lines(seg1)
			clear(lines[hole-1][part:])
			files.setLines(seg1, lines)
			files.put(t, cfg.Dir)
			if r := verify(t, against(t, cfg.Dir)); r.Problem != nil || int(r.LastSeq) != hole-1 {
				t.Fatalf("line %d from byte %d: %+v, %v", hole, part, r, r.Problem)
			}
			l = open(t, cfg)
			h := add(t, l, hole, hole)
			if got, last := ids(t, l); int(h.Seq) != hole || last != h || len(got) != hole || bytes.IndexByte(read(t, current(cfg)), 0) >= 0 {
				t.Fatalf("line %d from byte %d: appended at %+v, the log ends at %+v", hole, part, h, last)
			}
		}
	}
	// What is signed was on disk: there it is no power cut.
	cfg := config(t)
	files := verified(t, cfg, 9, 6)
	lines := files.lines(seg1)
	clear(lines[4])
	files.setLines(seg1, lines)
	files.put(t, cfg.Dir)
	wantProblem(t, verify(t, against(t, cfg.Dir)), seg1, 5, "the log ends before it")
	l := open(t, cfg)
	add(t, l, 10, 10)
	if got := read(t, current(cfg)); !bytes.HasPrefix(got, files[seg1]) {
		t.Error("evidence was removed")
	}
}

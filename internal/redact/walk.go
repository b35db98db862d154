package redact

// state is one way to read the text from a walk's start to pos, with the
// fingerprint of what was read.
type state struct {
	pos  int
	h    uint64
	want want
}

// want is what a state looks for.
type want uint8

const (
	wantMore    want = iota // the next byte of a pattern
	wantLast                // the character with a pattern's last bits
	wantPadding             // nothing; base64 padding goes with the match
)

// walk follows the text from one start through the trie, against all
// patterns at once. Where the text can be read in more than one way, it
// follows all that some pattern begins with.
type walk struct {
	start, end int // end of the longest match so far, -1: none
	front      []state
}

func (w *walk) begin(start int) {
	w.start, w.end = start, -1
	w.front = append(w.front[:0], state{pos: start})
}

// run takes w to the end of b and says whether more text could change it.
func (w *walk) run(ix *index, us *units, b []byte, eof bool) (open bool) {
	for len(w.front) > 0 {
		// The state that is furthest behind goes first: states that meet
		// are then told to be equal, and merge.
		at := 0
		for i := range w.front {
			if w.front[i].pos < w.front[at].pos {
				at = i
			}
		}
		st := w.front[at]
		switch {
		case st.want == wantPadding:
			end, ok := paddingEnd(b, st.pos, eof)
			if !ok {
				return true
			}
			w.end = max(w.end, end)
			w.drop(at)
		case st.pos == len(b):
			if !eof {
				return true
			}
			w.drop(at)
		case !special(b[st.pos], us.events && (st.pos > w.start || ix.first['\n'])):
			w.drop(at)
			st.pos++
			if w.step(ix, &st, b[st.pos-1], st.pos) {
				w.add(st)
			}
		default:
			us.at(b, st.pos, eof)
			if us.more {
				return true
			}
			w.drop(at)
			n := us.n
			if st.pos == w.start && endsLine(b[st.pos]) {
				n = min(n, 2) // no value begins with what it does not hold
			}
			for i := range n {
				w.read(ix, st, &us.u[i])
			}
		}
	}
	return false
}

// read takes a state through one reading of the text at its position.
func (w *walk) read(ix *index, st state, u *unit) {
	st.pos = u.next
	for _, c := range u.b[:u.n] {
		if !w.step(ix, &st, c, u.next) {
			return
		}
	}
	w.add(st)
}

// step takes st over c, which ends at next, and says whether st goes on.
func (w *walk) step(ix *index, st *state, c byte, next int) bool {
	if st.want == wantLast {
		if ix.endsWith(st.h, c) {
			w.add(state{pos: next, want: wantPadding})
		}
		return false
	}
	st.h = ix.step(st.h, c)
	inner, final := ix.node(st.h)
	if final {
		here, wantsLast := ix.end(st.h)
		if here {
			w.end = max(w.end, next)
		}
		if wantsLast {
			w.add(state{pos: next, h: st.h, want: wantLast})
		}
	}
	return inner
}

func (w *walk) add(st state) {
	for _, have := range w.front {
		if have == st {
			return
		}
	}
	w.front = append(w.front, st)
}

func (w *walk) drop(i int) {
	last := len(w.front) - 1
	w.front[i] = w.front[last]
	w.front = w.front[:last]
}

// paddingEnd is where the padding ends that may stand at b[i]. ok is false
// when the text ends before that is known.
func paddingEnd(b []byte, i int, eof bool) (end int, ok bool) {
	for range 2 {
		if i == len(b) {
			return i, eof
		}
		if b[i] != '=' {
			break
		}
		i++
	}
	return i, true
}

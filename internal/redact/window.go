package redact

// window looks up all readings of the windowLen bytes from some position on.
type window struct {
	ix     *index
	b      []byte
	events bool
	eof    bool
	leaves int // that may still be looked up
	hit    bool
	more   bool
	deep   *[windowLen]units // for the readings of its bytes
}

func (w *window) unit(u *unit, v uint64, n int) {
	for _, c := range u.b[:u.n] {
		if !w.ix.zoned[c] {
			return
		}
		v |= uint64(c) << (8 * n)
		if n++; n == windowLen {
			w.leaves--
			w.hit = w.hit || w.ix.hasWindow(v)
			return
		}
	}
	w.from(u.next, v, n)
}

func (w *window) from(pos int, v uint64, n int) {
	for {
		switch {
		case w.hit || w.leaves <= 0:
			return
		case pos == len(w.b):
			w.more = w.more || !w.eof
			return
		case special(w.b[pos], w.events):
			us := &w.deep[n]
			us.events = w.events
			us.at(w.b, pos, w.eof)
			w.more = w.more || us.more
			for i := range us.n {
				w.unit(&us.u[i], v, n)
			}
			return
		}
		c := w.b[pos]
		if !w.ix.zoned[c] {
			return
		}
		v |= uint64(c) << (8 * n)
		pos++
		if n++; n == windowLen {
			w.leaves--
			w.hit = w.ix.hasWindow(v)
			return
		}
	}
}

package redact

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// Whatever a glance is sure of is what units.at reads, and the window that it
// looks up is the one that all readings make.
func TestAGlanceTellsWhatTheReadingsAre(t *testing.T) {
	pieces := strings.Split(`\ \ \ \\ % % & & & amp; amp lt; lt quot; quot gt am q bsol; percnt; UnderBar; b # #65; #x41; #x6b #38; #37; #92; #8364; #128273; #x20 #55357; `+
		`65 x41 ; u00 61 25 41 5c 5C 26 22 2 e9 20 u005c u0026 u0025 u0075 u006e u0022 u0061 u00e9 u20ac ud83d \ude00 \u20ac \u20ac \u20ac &#8364; \ud83d\udd11 \ud83d\udd11 \ud83d\udd11 \\ude00 U0061 x5c x25 X n t u x " ' / . a s k -`, " ")
	pieces = append(pieces, "\n", "\r\ndata:", "\ndata: ", " ")
	values := append(shapes(), "🔑🔑🔑", "€€€€", "uuuu&uuu", `nn\n\nnn`, "%a%a%a%a", "\n\t\n\t\n\t\n\t", "((((((((", "éééé", "\u07ff\u07ff\u07ff\u07ff")
	rng := rand.New(rand.NewPCG(4, 4))
	sure := 0
	for _, v := range values {
		set := newSet(v)
		sc := set.scanner()
		for range 100 {
			var text strings.Builder
			for text.Len() < 60 {
				switch rng.IntN(3) {
				case 0:
					text.WriteString(pieces[rng.IntN(len(pieces))])
				case 1:
					text.WriteString(spelled(rng, string([]byte{"\\%&\"\n<"[rng.IntN(6)]}), 2))
				default:
					at := rng.IntN(2) * rng.IntN(len(v))
					for _, c := range []byte(v[at:min(len(v), at+zoneLen)]) {
						text.WriteString(spelled(rng, string([]byte{c}), rng.IntN(3)))
					}
				}
			}
			b := []byte(text.String() + farOff[:2*maxJoined])
			for _, events := range []bool{false, true} {
				sc.ofEvents(events)
				for p := range text.Len() {
					if introduces(b[p]) && sc.checkGlance(t, v, b, p) {
						sure++
					}
				}
			}
		}
	}
	if sure < 20_000 {
		t.Errorf("only %d glances tell anything", sure)
	}
}

// However often an introducer is escaped, a glance follows it once: its time
// is bounded.
func TestAGlanceGoesOnlySoDeep(t *testing.T) {
	set := newSet("aaaaaaaa")
	sc := set.scanner()
	for _, text := range []string{"%25", "&amp;", "&#38;"} {
		body := strings.TrimLeft(text, "%&")
		for times := range 6 {
			b := []byte(text[:1] + strings.Repeat(body, times) + "zzzz")
			if _, _, told := sc.ix.glance(b, 0); (told == unsure) != (times > 1) {
				t.Errorf("%q: %d", b, told)
			}
		}
	}
}

// spelled is text with some of its characters escaped, up to so many times.
func spelled(rng *rand.Rand, text string, times int) string {
	if times == 0 {
		return text
	}
	var out strings.Builder
	for i := range len(text) {
		c := text[i]
		names := map[byte]string{'&': "amp", '<': "lt", '"': "quot", '\\': "bsol", '%': "percnt", '_': "UnderBar", '\n': "NewLine"}
		short := map[byte]string{'"': `\"`, '\\': `\\`, '/': `\/`, '\n': `\n`, '\t': `\t`}
		how := rng.IntN(9)
		switch {
		case how == 0:
			fmt.Fprintf(&out, "%%%02x", c)
		case how == 1:
			fmt.Fprintf(&out, `\u%04x`, c)
		case how == 2:
			fmt.Fprintf(&out, `\x%02X`, c)
		case how == 3:
			fmt.Fprintf(&out, "&#%d;", c)
		case how < 6 && names[c] != "":
			fmt.Fprintf(&out, "&%s;", names[c])
		case how < 8 && short[c] != "":
			out.WriteString(short[c])
		default:
			out.WriteByte(c)
		}
	}
	return spelled(rng, out.String(), times-1)
}

func (s *scanner) checkGlance(t *testing.T, v string, b []byte, p int) (sure bool) {
	t.Helper()
	var want []unit
	us := units{events: s.units.events}
	us.at(b, p, false)
	for _, u := range us.u[1:us.n] {
		if s.ix.zoned[u.b[0]] {
			want = append(want, u)
		}
	}
	c, next, told := s.ix.glance(b, p)
	switch told {
	case idle:
		if len(want) > 0 {
			t.Fatalf("%q, events %t, for %q: idle, but it may be %v", b[p:], us.events, v, want)
		}
		for i := p; b[p] == '\\' && i < next; i++ { // what is passed over is idle as well
			if _, _, also := s.ix.glance(b, i); also != idle && introduces(b[i]) {
				t.Fatalf("%q, for %q: idle up to %d, but not at %d", b[p:], v, next, i)
			}
		}
	case single:
		for _, u := range want {
			if u.n != 1 || u.b[0] != c || u.next != next {
				t.Fatalf("%q, events %t, for %q: %q up to %d alone, but it may be %v", b[p:], us.events, v, c, next, want)
			}
		}
		if len(want) == 0 {
			t.Fatalf("%q, events %t, for %q: %q, but it cannot be", b[p:], us.events, v, c)
		}
		w := window{ix: s.ix, b: b, events: us.events, leaves: 1 << 20, deep: &s.deep}
		w.unit(&want[0], 0, 0)
		if hit, ok := s.ahead(b, c, next); ok && hit != w.hit {
			t.Fatalf("%q, events %t, for %q: the window that %q begins is found: %t, not %t", b[p:], us.events, v, c, hit, w.hit)
		}
	}
	return told != unsure
}

// The introducers of a text are found wherever they are, many or few.
func TestIntroducersAreFound(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 7))
	for n := range 600 {
		b := bytes.Repeat([]byte{'x'}, n)
		for range rng.IntN(1 + n/(1+rng.IntN(60))) {
			b[rng.IntN(n)] = "\\%&\r\n$'\x00\xa5"[rng.IntN(9)]
		}
		for _, events := range []bool{false, true} {
			in := introducers{b: b, events: events}
			i := 0
			for p, c := range b {
				if p < i || !special(c, events) {
					continue
				}
				if i = in.next(i); i != p {
					t.Fatalf("%q, events %t: %d, not %d", b, events, i, p)
				}
				i = min(n, i+1+rng.IntN(2)*rng.IntN(4))
			}
			if i = in.next(i); i != n {
				t.Fatalf("%q, events %t: %d, not %d", b, events, i, n)
			}
		}
	}
}

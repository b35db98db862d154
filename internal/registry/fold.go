package registry

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// FoldName reduces a secret's name to what a person would take it for: two
// names that look alike, or differ in case, spaces, '-', '_' and '.', fold to
// the same text. It errs on the side of claiming: a name that folds to a
// claimed one pins its secret.
//
// The fold is compatibility decomposition without marks, then one letter for
// each family of look-alikes (the Latin, Cyrillic, Greek, Armenian, Cherokee
// and small-capital letters that a terminal shows alike; 0 as O; 1, l and |
// as I), then lower case, then letters and digits alone.
func FoldName(name string) string {
	var b strings.Builder
	for _, c := range norm.NFKD.String(strings.ToValidUTF8(name, "")) { // beside a bad byte it would leave letters as they are
		if like, ok := lookAlike(c); ok {
			c = like
		}
		c = unicode.ToLower(unicode.ToUpper(c))
		if like, ok := lookAlike(c); ok { // a capital that only its small letter gives away
			c = unicode.ToLower(like)
		}
		switch c {
		case '0':
			c = 'o'
		case '1', 'l', '|', '!':
			c = 'i'
		}
		if unicode.IsLetter(c) || unicode.IsDigit(c) {
			b.WriteRune(c)
		}
	}
	return b.String()
}

// The pairs of lookAlike: each rune of the first text looks like the letter
// at the same place in the second. Capitals and small letters are apart where
// they look like different letters (Greek capital and small nu: N and v).
const (
	cyrillic  = "АВЕЅІЈКМНОРСТУХҮԌԚԜҺӀԁавеѕіјкмнорстухүԛԝһӏԍьѵԋғҒ"
	cyrillicL = "ABESIJKMHOPCTYXYGQWHIdabesijkmhopctyxyqwhigbvhff"
	greek     = "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹϺαβεηικνορτυχωγϲϳσ"
	greekL    = "ABEZHIKMNOPTYXCMabeniKvopTuxwycjo"
	others    = "ՕՍԼՏօսոհցԱꓐꓑꓒꓓꓖꓗꓙꓚꓛꓜꓝꓞꓟꓠꓡꓢꓣꓤꓦꓧꓨꓪꓫꓬꓮꓰꓲꓳꓴᎠᎪᏴᏟᎬᏀᎻᏆᎫᏦᏞᎷᏢᎡᏚᎢᏙᎳᏃ"
	othersL   = "OULSounhgUBPdDGKJCCZFFMNLSRRVHGWXYAEIOUDABCEGHIJKLMPRSTVWZ"
	latin     = "ɑɡıȷꞁᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢøØłŁđĐħƖꝆℓ∣ǀƄɩ"
	latinL    = "agijlabcdefghijklmnoprstuvwyzoOlLdDhIlliiBi"
)

// lookAlike returns the ASCII letter that c looks like.
func lookAlike(c rune) (rune, bool) {
	if c < 0x80 {
		return 0, false
	}
	for _, p := range [...][2]string{{cyrillic, cyrillicL}, {greek, greekL}, {others, othersL}, {latin, latinL}} {
		at := 0
		for _, r := range p[0] {
			if r == c {
				return rune(p[1][at]), true
			}
			at++
		}
	}
	return 0, false
}

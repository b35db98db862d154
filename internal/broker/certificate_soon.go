package broker

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"moldable.sh/aivault/internal/api"
)

// A certificate ends soon when so much of its time is left; of one that is
// made for a short time, a third.
const endsSoon = 14 * 24 * time.Hour

func soon(now, from, until time.Time) bool {
	return until.Sub(now) < min(endsSoon, until.Sub(from)/3)
}

// ending lists the certificates of a credential that end soon, and those of
// its own authorities that have ended. A client certificate that has ended is
// trouble, and told as such.
func (c *credential) ending(now time.Time) []api.Problem {
	const day = "2006-01-02"
	var list []api.Problem
	add := func(why, hint string, soon bool) {
		list = append(list, api.Problem{What: "credential " + c.ID, Why: why, Hint: hint, Soon: soon})
	}
	for _, l := range c.logins() {
		known, fields := c.certificateOf(l)
		if v := known.valid; len(fields) > 0 && known.err == nil && soon(now, v.NotBefore, v.NotAfter) {
			add(fmt.Sprintf("its client certificate ends on %s", v.NotAfter.UTC().Format(day)), c.rotation(fields[0]), true)
		}
	}
	for rest := c.roots; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return list
		}
		ca, err := x509.ParseCertificate(block.Bytes)
		again := "aivault credential delete " + c.ID // and made again with another --ca-file
		switch {
		case err != nil: // told when it was made
		case now.After(ca.NotAfter):
			add(fmt.Sprintf("a certificate of its --ca-file ended on %s: make it again with another", ca.NotAfter.UTC().Format(day)), again, false)
		case soon(now, ca.NotBefore, ca.NotAfter):
			add(fmt.Sprintf("a certificate of its --ca-file ends on %s: make it again with another", ca.NotAfter.UTC().Format(day)), again, true)
		}
	}
}

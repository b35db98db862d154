//go:build system

package main_test

import (
	"slices"
	"testing"
	"time"
)

// Two hundred processes at once, by the daemon and by themselves, call with a
// token that the API takes no more: one of them renews it for all, and no
// refresh token is ever sent twice.
func TestSystemOneRefreshForAllProcesses(t *testing.T) {
	d := newDesk(t)
	d.idp.Rotate(true)
	r := d.login()
	d.browser.open(d.shows(r, consentPage))
	d.browser.click("yes")
	d.ends(r, 0, "Logged in")
	d.runs("invoke", "gitlab/user-read")

	for range 2 {
		before := d.idp.Counts()
		d.idp.Expire()
		release := d.idp.Hold()
		byDaemon := d.env
		var all []*running
		for i := range 200 {
			if d.env = byDaemon; i%3 == 0 {
				d.env = append(slices.Clone(byDaemon), "AIVAULTD_DISABLE=1")
			}
			all = append(all, d.start("", "invoke", "gitlab/user-read"))
		}
		d.env = byDaemon
		// The endpoint answers when all of them have had time to want the token.
		d.idp.Await(before.Asked + 1)
		time.Sleep(2 * time.Second)
		release()
		for _, r := range all {
			d.ends(r, 0, "")
		}
		after := d.idp.Counts()
		if after.Asked != before.Asked+1 || after.Reused != 0 {
			t.Errorf("%d asks for 200 calls, and %d of a refresh token that was used up", after.Asked-before.Asked, after.Reused)
		}
	}
	d.clean()
}

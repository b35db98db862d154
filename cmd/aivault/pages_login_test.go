package main_test

import (
	"fmt"
	"net/http"
	"os"
	"testing"

	"moldable.sh/aivault/internal/standin"
)

// The pages log in at GitLab, as an app of this name with this secret.
const (
	pagesApp       = "my-app"
	pagesAppSecret = "a-value"
	pagesIDP       = "gitlab.com"
)

// loginPages is what GitLab answers where people log in; it is false for any
// other request.
func loginPages() func(w http.ResponseWriter, r *http.Request) bool {
	idp := standin.NewIDP(standin.IDPOptions{ClientID: pagesApp, ClientSecret: pagesAppSecret, Paths: idpPaths, Account: "alice@example.com", Interval: 1, Eager: true})
	return func(w http.ResponseWriter, r *http.Request) bool {
		if _, known := idpPaths[r.URL.Path]; !known || r.Host != pagesIDP {
			return false
		}
		idp.ServeHTTP(w, r)
		return true
	}
}

// asBrowser is the variable by which this program becomes the browser of
// someone who reads the pages: xdg-open starts it so.
const asBrowser = "PAGES_BROWSER"

func browserScript(upstream string) string {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("#!/bin/sh\n%s='%s' exec '%s' \"$1\"\n", asBrowser, upstream, self)
}

func TestMain(m *testing.M) {
	if upstream := os.Getenv(asBrowser); upstream != "" && len(os.Args) == 2 {
		if _, err := browse(os.Args[1], upstream, "yes"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if programs.dir != "" {
		_ = os.RemoveAll(programs.dir)
	}
	os.Exit(code)
}

package broker_test

import (
	"fmt"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/vault"
)

// A grant that holds everywhere tells its caller no more of other people's
// workspaces than no grant does. One for a workspace tells of its groups.
func TestAGrantTellsOfNoTenants(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	v.Create(t, "FIRST", "makes-the-vault-0123456789")
	tamper(t, v, func(tx *vault.Tx) error {
		for _, scope := range []string{"workspace:acme-corp", "group:acme-corp:fxdesk", "group:big-bank:traders"} {
			id, err := addSecret(tx, "TOKEN", scope, "token of "+scope, "", "")
			if err != nil {
				return err
			}
			tx.State.Credentials = append(tx.State.Credentials, account("of-"+strings.ReplaceAll(scope, ":", "-"), scope, id))
		}
		tx.State.Capabilities = acmeCapabilities()
		return nil
	})
	told := func(grants ...api.Grant) string {
		tamper(t, v, func(tx *vault.Tx) error {
			uid := aivaulttest.Agent().UID
			for i := range grants {
				grants[i].ID, grants[i].Consumer, grants[i].Capabilities = fmt.Sprint("g", i), api.Consumer{UID: &uid}, []string{"*"}
			}
			tx.State.Grants = grants
			if grants == nil {
				tx.State.Grants = []api.Grant{}
			}
			return nil
		})
		var all string
		for _, told := range answers(t, v, aivaulttest.Agent(), []api.Call{get("acme/x", "/x"), get("acme/*", "/x")}) {
			all += told
		}
		return all
	}
	for name, c := range map[string]struct {
		grants    []api.Grant
		yes, none []string
	}{
		"no grant":       {nil, nil, []string{"acme-corp", "big-bank", "fxdesk", "traders"}},
		"everywhere":     {[]api.Grant{{}}, nil, []string{"acme-corp", "big-bank", "fxdesk", "traders"}},
		"in a workspace": {[]api.Grant{{WorkspaceID: "acme-corp"}}, []string{"workspace:acme-corp"}, []string{"big-bank", "traders"}},
		"in both":        {[]api.Grant{{}, {WorkspaceID: "acme-corp"}}, []string{"workspace:acme-corp", "group:acme-corp:fxdesk"}, []string{"big-bank", "traders"}},
		"in a group":     {[]api.Grant{{WorkspaceID: "acme-corp", GroupID: "other"}}, []string{"group:acme-corp:other"}, []string{"big-bank", "traders", "fxdesk"}},
	} {
		all := told(c.grants...)
		for _, word := range c.none {
			if strings.Contains(all, word) {
				t.Errorf("%s: the caller is told of %s", name, word)
			}
		}
		for _, word := range c.yes {
			if !strings.Contains(all, word) {
				t.Errorf("%s: the caller is not told of %s", name, word)
			}
		}
	}
}

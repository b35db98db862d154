package server

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
)

// Literal paths and parameters share prefixes: each request reaches one route,
// whatever things are called.
func TestRequestsReachTheirRoutes(t *testing.T) {
	h := &handler{}
	h.routes = h.table()
	for _, c := range []struct{ method, path, pattern, param string }{
		{"POST", "/aivault/secrets", api.RouteSecrets, ""},
		{"POST", "/aivault/secrets/import", "/aivault/secrets/import", ""},
		{"PATCH", "/aivault/secrets/import", "/aivault/secrets/{ref}", "import"},
		{"DELETE", "/aivault/secrets/import", "/aivault/secrets/{ref}", "import"},
		{"POST", "/aivault/secrets/import/rotate", "/aivault/secrets/{ref}/rotate", "import"},
		{"POST", "/aivault/secrets/import/groups", secretGroups, "import"},
		{"DELETE", "/aivault/secrets/import/groups", secretGroups, "import"},
		{"DELETE", "/aivault/secrets/groups", "/aivault/secrets/{ref}", "groups"},
		{"DELETE", "/aivault/secrets/a%2Fgroups", "/aivault/secrets/{ref}", "a/groups"},
		{"POST", "/aivault/secrets/a%2Fb/groups", secretGroups, "a/b"},
		{"POST", "/aivault/secrets/im%70ort", "", ""},
		{"POST", "/aivault/secrets/import/", "", ""},
		{"GET", "/aivault/secrets/a/groups", "", ""},
		{"POST", "/aivault/capabilities/enable", "/aivault/capabilities/enable", ""},
		{"POST", "/aivault/capabilities/disable", "/aivault/capabilities/disable", ""},
		{"GET", "/aivault/capabilities/enable", "/aivault/capabilities/{id...}", "enable"},
		{"DELETE", "/aivault/capabilities/enable", "/aivault/capabilities/{id...}", "enable"},
		{"POST", "/aivault/capabilities/openai/enable", "", ""},
		{"GET", "/aivault/policies/openai/models", "/aivault/policies/{id...}", "openai/models"},
		{"DELETE", "/aivault/policies/openai%2Fmodels", "/aivault/policies/{id...}", "openai/models"},
		{"POST", "/aivault/policies/openai/models", "", ""},
		{"GET", "/aivault/policies", api.RoutePolicies, ""},
		{"GET", "/aivault/policies/", "", ""},
		{"DELETE", "/aivault/bindings", api.RouteBindings, ""},
		{"DELETE", "/aivault/bindings/b1", "", ""},
		{"POST", "/aivault/grants/reset", "/aivault/grants/reset", ""},
		{"POST", "/aivault/grants/default", "/aivault/grants/default", ""},
		{"DELETE", "/aivault/grants/reset", "/aivault/grants/{ref}", "reset"},
		{"DELETE", "/aivault/grants/g1", "/aivault/grants/{ref}", "g1"},
		{"DELETE", "/aivault/grants/g1/x", "", ""},
		{"DELETE", "/aivault/grants", "", ""},
	} {
		x := &exchange{r: httptest.NewRequest(c.method, c.path, nil)}
		rt, _ := h.find(x)
		switch {
		case rt == nil && c.pattern == "":
		case rt == nil || rt.pattern != c.pattern || x.param != c.param || rt.method != c.method:
			t.Errorf("%s %s reaches %+v with %q", c.method, c.path, rt, x.param)
		}
	}
}

// No two routes answer the same request, so that the order of the table means
// nothing.
func TestNoTwoRoutesAreOne(t *testing.T) {
	table := (&handler{}).table()
	for i := range table {
		before, after, has := strings.Cut(table[i].pattern, "{")
		example := before
		if has {
			_, after, _ = strings.Cut(after, "}")
			example = before + "import" + after
		}
		for j := range table {
			if _, ok := match(table[j].pattern, example); ok && i != j && table[i].method == table[j].method {
				t.Errorf("%s %s is also %s", table[i].method, table[i].pattern, table[j].pattern)
			}
		}
	}
}

// Only what has no name of its own is deleted by a description.
func TestBodiesOfDeletions(t *testing.T) {
	described := 0
	for _, rt := range (&handler{}).table() {
		if rt.described() {
			described++
			if rt.method != http.MethodDelete {
				t.Errorf("%s %s", rt.method, rt.pattern)
			}
		}
	}
	if described != 2 {
		t.Errorf("%d routes are described", described)
	}
}

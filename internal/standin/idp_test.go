package standin

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// ask posts a form to an IDP and returns what it said.
func ask(t *testing.T, a *API, form string) (status int, said map[string]any) {
	t.Helper()
	resp, err := client(t, a, true).Post(url(a, "/token"), "application/x-www-form-urlencoded", strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || json.Unmarshal(body, &said) != nil {
		t.Fatalf("%q, %v", body, err)
	}
	return resp.StatusCode, said
}

func call(t *testing.T, a *API, token string) int {
	t.Helper()
	req, err := http.NewRequest("GET", url(a, "/things"), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := client(t, a, true).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

const idpClient = "&client_id=" + IDPClient + "&client_secret=" + IDPSecret

// A family ends when a refresh token is used that another has replaced: the
// tests that want this never to happen rest on it.
func TestIDPRevokesTheFamilyOnReuse(t *testing.T) {
	p := NewIDP(IDPOptions{Rotate: true})
	a := start(t, p)
	first := p.Login()
	status, said := ask(t, a, "grant_type=refresh_token&refresh_token="+first+idpClient)
	access, second := said["access_token"].(string), said["refresh_token"].(string)
	if status != 200 || second == first || call(t, a, access) != 200 {
		t.Fatalf("%d %v", status, said)
	}
	if status, said := ask(t, a, "grant_type=refresh_token&refresh_token="+first+idpClient); status != 400 || said["error"] != "invalid_grant" {
		t.Errorf("reuse: %d %v", status, said)
	}
	if status, _ := ask(t, a, "grant_type=refresh_token&refresh_token="+second+idpClient); status != 400 || call(t, a, access) != 401 {
		t.Errorf("the family lives on: %d", status)
	}
	if got := p.Counts(); got != (IDPCounts{Asked: 3, Given: 1, Reused: 1, Refused: 1}) {
		t.Errorf("counts = %+v", got)
	}
}

func TestIDPIsStrictAboutItsDialect(t *testing.T) {
	p := NewIDP(IDPOptions{Params: map[string]string{"audience": "x"}})
	a := start(t, p)
	for form, want := range map[string]string{
		"grant_type=client_credentials&audience=x" + idpClient:                  "",
		"grant_type=client_credentials" + idpClient:                             "invalid_request",
		"grant_type=client_credentials&audience=x":                              "invalid_client",
		"grant_type=client_credentials&audience=x&client_id=" + IDPClient:       "invalid_client",
		"grant_type=password&audience=x" + idpClient:                            "unsupported_grant_type",
		"grant_type=refresh_token&audience=x&refresh_token=nothing" + idpClient: "invalid_grant",
		"grant_type=client_credentials&audience=x&client_secret=other":          "invalid_client",
	} {
		_, said := ask(t, a, form)
		if got, _ := said["error"].(string); got != want {
			t.Errorf("%s: error %q, want %q", form, got, want)
		}
	}
	p.Fail(1, 503, "text/plain", "busy")
	resp, err := client(t, a, true).Post(url(a, "/token"), "", nil)
	if err != nil || resp.StatusCode != 503 {
		t.Errorf("%v %v", resp, err)
	}
	_ = resp.Body.Close()
}

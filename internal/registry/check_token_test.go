package registry

import (
	"fmt"
	"testing"
)

// A login with tokens may be turned on, or say that it is not yet; and what it
// names is checked either way.
func TestLoginsWithTokens(t *testing.T) {
	const file = `{"schemaVersion":1,"provider":"acme","title":"Acme","category":"tests","docs":"https://acme.test/","getKey":{"text":"Ask.","url":"https://acme.test/"},
		"secrets":[{"name":"ACME_OAUTH","field":"a"}],"hosts":["{shop}.acme.test"],"hostParams":[{"name":"shop","kind":"tenant","pattern":"^[a-z]+$"}],"hostPatterns":["*.acme.test"],
		"logins":[{"id":"x",%s}],
		"capabilities":[{"id":"acme/read","description":"Read.","access":"read","methods":["GET"],"paths":["/"]}]}`
	const headers = `"headers":[{"name":"Authorization","valueTemplate":"Bearer {{access_token}}"}]`
	oauth2 := func(more string) string {
		return `"auth":{"type":"oauth2"},"oauth2":{"fields":["a"],"grantType":"refresh_token","tokenEndpoint":"https://{shop}.acme.test/token","clientAuth":"body","bodyFormat":"form",` + more + headers + `}`
	}
	exchange := `"auth":{"type":"token-exchange"},"tokenExchange":{"tokenEndpoint":"https://id.acme.test/token","bodyFormat":"json","body":{"secret":"{{a}}"},"tokenField":"token",` + headers + `}`
	for login, ok := range map[string]bool{
		oauth2(""):                                    true,
		oauth2("") + `,"notYet":"oauth2"`:             false,
		exchange:                                      true,
		exchange + `,"notYet":"token-exchange"`:       false,
		oauth2(`"codeEndpoint":"https://x.test/",`):   true,
		oauth2(`"codeEndpoint":"http://x.test/",`):    false,
		oauth2(`"deviceEndpoint":"https://x.test",`):  false,
		oauth2(`"revocationEndpoint":"https://1/",`):  false,
		oauth2(`"codeEndpoint":"https://{x}.test/",`): false,
	} {
		text := []byte(fmt.Sprintf(file, login))
		if _, err := Parse(text); (err == nil) != ok {
			t.Errorf("%s: %v", login, err)
		}
		if err := schemaSays(t, compileSchema(t), text); ok && err != nil {
			t.Errorf("%s: the schema says %v", login, err)
		}
	}
}

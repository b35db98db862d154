package broker_test

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
)

// expectation is what the API has to receive.
type expectation struct {
	secrets map[string]string
	call    api.Call
	host    string
	target  string
	header  map[string]string // auth and static headers, by canonical name
}

func post(capability, path, body string) api.Call {
	return api.Call{Capability: capability, Request: api.Request{Method: "POST", Path: path, Body: &body}}
}

func TestEachProviderReceivesExactlyItsAuth(t *testing.T) {
	chat := `{"model":"m","messages":[]}`
	sid, token := "AC00000000000000000000000000000000", "twilio-auth-token-0123456789"
	basic := base64.StdEncoding.EncodeToString([]byte(sid + ":" + token))
	for name, e := range map[string]expectation{
		"openai": {
			secrets: map[string]string{"OPENAI_API_KEY": "sk-test-openai-0123456789"},
			call:    api.Call{Capability: "openai/chat-completions", Request: api.Request{Body: &chat}},
			host:    "api.openai.com", target: "/v1/chat/completions",
			header: map[string]string{"Authorization": "Bearer sk-test-openai-0123456789", "Content-Type": "application/json"},
		},
		"anthropic": {
			secrets: map[string]string{"ANTHROPIC_API_KEY": "sk-ant-0123456789abcdef"},
			call:    post("anthropic/messages", "/v1/messages", chat),
			host:    "api.anthropic.com", target: "/v1/messages",
			header: map[string]string{"X-Api-Key": "sk-ant-0123456789abcdef", "Anthropic-Version": "2023-06-01"},
		},
		"gemini": {
			secrets: map[string]string{"GEMINI_API_KEY": "gemini-key-0123456789"},
			call:    get("gemini/models", "/v1beta/models"),
			host:    "generativelanguage.googleapis.com", target: "/v1beta/models",
			header: map[string]string{"X-Goog-Api-Key": "gemini-key-0123456789"},
		},
		"github": {
			secrets: map[string]string{"GH_TOKEN": "ghp_0123456789abcdef"},
			call:    get("github/user-read", "/user"),
			host:    "api.github.com", target: "/user",
			header: map[string]string{
				"Authorization": "Bearer ghp_0123456789abcdef", "Accept": "application/vnd.github+json",
				"X-Github-Api-Version": "2022-11-28",
			},
		},
		"slack": {
			secrets: map[string]string{"SLACK_BOT_TOKEN": "xoxb-0123456789-abcdef"},
			call:    post("slack/auth-test", "/api/auth.test", ""),
			host:    "slack.com", target: "/api/auth.test",
			header: map[string]string{"Authorization": "Bearer xoxb-0123456789-abcdef"},
		},
		"slack with two tokens": {
			secrets: map[string]string{"SLACK_BOT_TOKEN": "xoxb-0123456789-abcdef", "SLACK_USER_TOKEN": "xoxp-9876543210-fedcba"},
			call:    get("slack/search", "/api/search.messages?query=x"),
			host:    "slack.com", target: "/api/search.messages?query=x",
			header: map[string]string{"Authorization": "Bearer xoxp-9876543210-fedcba"},
		},
		"stripe": {
			secrets: map[string]string{"STRIPE_SECRET_KEY": "rk_live_0123456789"},
			call:    get("stripe/balance-read", "/v1/balance"),
			host:    "api.stripe.com", target: "/v1/balance",
			header: map[string]string{"Authorization": "Bearer rk_live_0123456789"},
		},
		"telegram": {
			secrets: map[string]string{"TELEGRAM_BOT_TOKEN": "123456:AAbbCCddEEff00112233"},
			call:    get("telegram/get-me", "/getMe"),
			host:    "api.telegram.org", target: "/bot123456:AAbbCCddEEff00112233/getMe",
		},
		"telegram files": {
			secrets: map[string]string{"TELEGRAM_BOT_TOKEN": "123456:AAbbCCddEEff00112233"},
			call:    get("telegram/file-download", "/photos/file_1.jpg"),
			host:    "api.telegram.org", target: "/file/bot123456:AAbbCCddEEff00112233/photos/file_1.jpg",
		},
		"trello": {
			secrets: map[string]string{"TRELLO_API_KEY": "trellokey0123456789", "TRELLO_TOKEN": "trellotoken9876543210"},
			call:    get("trello/boards-read", "/1/boards/abc"),
			host:    "api.trello.com", target: "/1/boards/abc",
			header: map[string]string{"Authorization": `OAuth oauth_consumer_key="trellokey0123456789", oauth_token="trellotoken9876543210"`},
		},
		"twilio": {
			secrets: map[string]string{"TWILIO_ACCOUNT_SID": sid, "TWILIO_AUTH_TOKEN": token},
			call:    get("twilio/messages-read", "/2010-04-01/Accounts/"+sid+"/Messages.json"),
			host:    "api.twilio.com", target: "/2010-04-01/Accounts/" + sid + "/Messages.json",
			header: map[string]string{"Authorization": "Basic " + basic},
		},
		"youtube": {
			secrets: map[string]string{"YOUTUBE_API_KEY": "youtube-key-0123456789"},
			call:    get("youtube/search", "/youtube/v3/search?part=snippet&q=x"),
			host:    "www.googleapis.com", target: "/youtube/v3/search?part=snippet&q=x",
			header: map[string]string{"X-Goog-Api-Key": "youtube-key-0123456789"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := start(t, aivaulttest.Options{})
			for _, name := range sortedKeys(e.secrets) {
				v.Create(t, name, e.secrets[name])
			}
			mustInvoke(t, v, e.call)
			seen := v.API.Seen()
			if len(seen) != 1 {
				t.Fatalf("the API saw %d requests", len(seen))
			}
			got := seen[0]
			if got.Host != e.host || got.Target != e.target {
				t.Errorf("sent to %s %s, want %s %s", got.Host, got.Target, e.host, e.target)
			}
			for name, want := range e.header {
				if values := got.Header[name]; !slices.Equal(values, []string{want}) {
					t.Errorf("%s: %q, want %q once", name, values, want)
				}
			}
			for _, value := range e.secrets {
				for name, values := range got.Header {
					if e.header[name] == "" && strings.Contains(strings.Join(values, "\n"), value) {
						t.Errorf("header %s carries the secret too", name)
					}
				}
			}
			if agent := got.Header.Get("User-Agent"); agent == "" || strings.Contains(agent, "{") || strings.Contains(agent, "Go-http") {
				t.Errorf("User-Agent is %q", agent)
			}
			if e.header["Authorization"] == "" && got.Header.Get("Authorization") != "" {
				t.Errorf("an Authorization that nobody asked for: %q", got.Header.Get("Authorization"))
			}
		})
	}
}

func sortedKeys(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Whatever way the secret travels, an upstream that repeats the request gives
// the caller nothing of it.
func TestAnEchoIsScrubbed(t *testing.T) {
	const value = "s3cr3t-value-0123456789"
	pair := "user7:" + value
	for name, c := range map[string]struct {
		spec  api.AuthSpec
		value string
		hide  []string
	}{
		"header":       {spec: api.AuthSpec{Type: "header", HeaderName: "X-Acme-Key"}},
		"bearer":       {spec: bearer()},
		"query":        {spec: api.AuthSpec{Type: "query", ParamName: "key"}},
		"path":         {spec: api.AuthSpec{Type: "path", PrefixTemplate: "/t/{{secret}}"}},
		"basic":        {spec: api.AuthSpec{Type: "basic"}, value: pair, hide: []string{base64.StdEncoding.EncodeToString([]byte(pair))}},
		"basic fixed":  {spec: api.AuthSpec{Type: "basic", UsernameTemplate: "x-token", PasswordTemplate: "{{secret}}"}, hide: []string{base64.StdEncoding.EncodeToString([]byte("x-token:" + value))}},
		"multi-header": {spec: api.AuthSpec{Type: "multi-header", Headers: []api.AuthField{{Name: "X-A", ValueTemplate: "{{secret}}"}, {Name: "X-B", ValueTemplate: "v={{secret}}"}}}},
		"multi-query":  {spec: api.AuthSpec{Type: "multi-query", Params: []api.AuthField{{Name: "a", ValueTemplate: "{{secret}}"}, {Name: "b", ValueTemplate: "b-{{secret}}"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Request-Id", "id "+r.Header.Get("Authorization")+r.Header.Get("X-Acme-Key")+r.URL.RawQuery)
				w.Header().Set("Set-Cookie", "a=b")
				w.Header().Set("Location", "https://elsewhere.test/"+r.Header.Get("Authorization"))
				_, _ = w.Write([]byte(r.RequestURI + "\n"))
				for k, vs := range r.Header {
					_, _ = w.Write([]byte(k + ": " + strings.Join(vs, ", ") + "\n"))
				}
			})
			v := start(t, aivaulttest.Options{Handler: echo})
			secretValue := c.value
			if secretValue == "" {
				secretValue = value
			}
			acme(t, v, secretValue, c.spec)
			answer, body, err := v.Invoke(get("acme/all", "/echo"))
			if err != nil {
				t.Fatal(err)
			}
			for _, hidden := range append([]string{value}, c.hide...) {
				if strings.Contains(body, hidden) {
					t.Errorf("the body holds %q:\n%s", hidden, body)
				}
				for name, values := range answer.Header {
					if strings.Contains(strings.Join(values, "\n"), hidden) {
						t.Errorf("header %s holds %q", name, hidden)
					}
				}
				if strings.Contains(answer.Planned.URL, hidden) {
					t.Errorf("the plan holds %q", hidden)
				}
			}
			if !strings.Contains(body, "[redacted]") {
				t.Errorf("nothing was redacted, so nothing was echoed:\n%s", body)
			}
			if answer.Header.Get("Set-Cookie") != "" || answer.Header.Get("Location") != "" {
				t.Errorf("passed on %v", answer.Header)
			}
			if answer.Header.Get("X-Request-Id") == "" {
				t.Error("the request id was dropped")
			}
			finished := aivaulttest.Events(v.Records(t), "call.finished")
			if len(finished) != 1 || finished[0]["redactions"] == nil {
				t.Errorf("the log says %v", finished)
			}
			noneOnDisk(t, v, value)
		})
	}
}

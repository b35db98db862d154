package broker_test

import (
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
)

func with(c api.Call, headers ...string) api.Call {
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		c.Request.Headers = append(c.Request.Headers, api.Header{Name: name, Value: value})
	}
	return c
}

// What is refused reaches nobody, and is in the log.
func TestARefusedCallReachesNothing(t *testing.T) {
	// What is refused twice within a minute is one record.
	now := time.Now()
	v := start(t, aivaulttest.Options{Clock: func() time.Time { return now }})
	v.Create(t, "OPENAI_API_KEY", "sk-test-0123456789")
	acme(t, v, "acme-token-0123456789", api.AuthSpec{Type: "header", HeaderName: "X-Odd_Name"})
	chat := post("openai/chat-completions", "/v1/chat/completions", `{}`)
	sub := func(path string) api.Call { c := chat; c.Request.Path = path; return c }
	method := func(m string) api.Call { c := chat; c.Request.Method = m; return c }
	cases := []struct {
		name string
		call api.Call
		code api.Code
	}{
		{"unknown capability", get("openai/nothing", "/"), api.CapabilityNotFound},
		{"no capability", get("", "/"), api.CapabilityNotFound},
		{"control characters in its name", get("openai/\x1b[2J\n", "/"), api.CapabilityNotFound},
		{"another path", sub("/v1/files"), api.PolicyViolation},
		{"a prefix without its boundary", sub("/v1/chat/completions-x"), api.PolicyViolation},
		{"dots", sub("/v1/chat/completions/../../files"), ""},
		{"encoded dots", sub("/v1/chat/completions/%2e%2e/files"), ""},
		{"an absolute target", sub("https://evil.test/v1/chat/completions"), ""},
		{"a host by two slashes", sub("//evil.test/v1/chat/completions"), ""},
		{"another method", method("DELETE"), api.PolicyViolation},
		{"a lower-case method", method("post"), ""},
		{"CONNECT", method("CONNECT"), ""},
		{"authorization", with(chat, "authorization: Bearer mine"), api.PolicyViolation},
		{"another provider's header", with(chat, "X-Api-Key: mine"), api.PolicyViolation},
		{"a cookie", with(chat, "Cookie: a=b"), api.PolicyViolation},
		{"a host header", with(chat, "Host: evil.test"), ""},
		{"two lines in a header", with(chat, "X-A: a\r\nAuthorization: b"), ""},
		{"a token in the query", sub("/v1/chat/completions?access_token=x"), api.PolicyViolation},
		{"the custom provider's own header", with(get("acme/all", "/"), "x-odd-name: mine"), api.PolicyViolation},
		{"a credential that is not there", func() api.Call { c := chat; c.Credential = "other"; return c }(), api.CredentialNotFound},
		{"another provider's credential", func() api.Call { c := chat; c.Credential = "acme"; return c }(), api.CredentialNotFound},
		{"a group without workspace", func() api.Call { c := chat; c.GroupID = "g"; return c }(), api.InvalidRequest},
		{"a workspace that is none", func() api.Call { c := chat; c.WorkspaceID = "../x"; return c }(), api.InvalidRequest},
		{"a negative timeout", func() api.Call { c := chat; c.TimeoutMs = -1; return c }(), api.InvalidRequest},
		{"an overflowing timeout", func() api.Call { c := chat; c.TimeoutMs = 1 << 62; return c }(), api.InvalidRequest},
		{"no credential yet", get("github/user-read", "/user"), api.CredentialNotFound},
		{"no default path", api.Call{Capability: "acme/all"}, api.InvalidRequest},
		{"needs what is not built", get("openai/realtime", "/v1/realtime"), api.InvalidRequest},
		{"needs another secret", get("openai/codex-responses", "/responses"), api.CredentialNotFound},
	}
	for _, c := range cases {
		now = now.Add(time.Minute)
		_, _, err := v.Invoke(c.call)
		if err == nil {
			t.Errorf("%s: went out", c.name)
			continue
		}
		code := api.CodeOf(err)
		if c.code == "" && (code == api.PolicyViolation || code == api.InvalidRequest) {
			code = ""
		}
		if code != c.code {
			t.Errorf("%s: %s (%v), want %s", c.name, api.CodeOf(err), err, c.code)
		}
		if text := err.Error(); strings.ContainsAny(text, "\x1b\n\r") {
			t.Errorf("%s: the error holds control characters: %q", c.name, text)
		}
	}
	if n := len(v.API.Seen()); n != 0 {
		t.Fatalf("the API saw %d requests", n)
	}
	records := v.Records(t)
	refused := aivaulttest.Events(records, "call.refused")
	if len(refused) != len(cases) {
		t.Fatalf("%d refusals in the log, want %d", len(refused), len(cases))
	}
	for i, r := range refused {
		if r["code"] == nil || r["reason"] == nil || r["requestId"] == nil || r["caller"] == nil {
			t.Errorf("%s: the record says too little: %v", cases[i].name, r)
		}
	}
	if allowed := aivaulttest.Events(records, "call.allowed", "call.finished"); len(allowed) != 0 {
		t.Errorf("the log says %v", allowed)
	}
}

func TestWhatIsMissingIsSaidWithTheCommand(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	v.Create(t, "TRELLO_API_KEY", "trellokey0123456789")
	acme(t, v, "acme-token-0123456789", bearer())
	for _, c := range []struct {
		call api.Call
		code api.Code
		text string
		hint string
	}{
		{get("openai/models", "/v1/models"), api.CredentialNotFound, "openai in scope global", "aivault secrets create --name OPENAI_API_KEY"},
		{get("trello/boards-read", "/1/boards/x"), api.CredentialNotFound, "waits for TRELLO_TOKEN", "aivault secrets create --name TRELLO_TOKEN"},
		{get("nope/nope", "/"), api.CapabilityNotFound, `"nope/nope"`, "aivault capability list"},
		{api.Call{Capability: "acme/all", Request: api.Request{Path: "/x"}}, api.InvalidRequest, "give --method", "aivault capability describe acme/all"},
	} {
		err := mustRefuse(t, v, c.call, c.code)
		if !strings.Contains(err.Message, c.text) || err.Hint != c.hint {
			t.Errorf("%s: %q, hint %q; want %q, hint %q", c.call.Capability, err.Message, err.Hint, c.text, c.hint)
		}
	}
	call := get("openai/models", "/v1/models")
	call.WorkspaceID, call.GroupID = "w", "g"
	if err := mustRefuse(t, v, call, api.CredentialNotFound); !strings.Contains(err.Message, "group:w:g") {
		t.Errorf("%q does not name the context", err.Message)
	}
}

func TestAnUnknownCapabilityPointsAtWhatThereIs(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	v.Create(t, "OPENAI_API_KEY", "sk-test-0123456789")
	for id, hint := range map[string]string{
		"openai/chat": "aivault capability list --provider openai",
		"openai":      "aivault capability list --provider openai",
		"acme/chat":   "aivault capability list",
		"":            "aivault capability list",
	} {
		if err := mustRefuse(t, v, get(id, "/"), api.CapabilityNotFound); err.Hint != hint {
			t.Errorf("%q: hint %q, want %q", id, err.Hint, hint)
		}
	}
}

func TestAProcessThatMustNotCallSaysWhy(t *testing.T) {
	v := start(t, aivaulttest.Options{
		Refuse: api.Errorf(api.PolicyViolation, "AIVAULT_DEV_RESOLVE is set, and this build does not know it").WithHint("unset it"),
	})
	v.Create(t, "OPENAI_API_KEY", "sk-test-0123456789")
	err := mustRefuse(t, v, get("openai/models", "/v1/models"), api.PolicyViolation)
	if !strings.Contains(err.Message, "AIVAULT_DEV_RESOLVE") || err.Hint != "unset it" {
		t.Errorf("the error is %q, its hint %q", err.Message, err.Hint)
	}
	if len(v.API.Seen()) != 0 || len(aivaulttest.Events(v.Records(t), "call.refused")) != 1 {
		t.Error("the call went out, or is not in the log")
	}
}

func TestWithoutAKeyNothingIsCalledAndEverythingIsDescribed(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	mustRefuse(t, v, get("openai/models", "/v1/models"), api.VaultUnavailable)
	look := func(reason string) {
		t.Helper()
		list, err := v.Broker.Capabilities(background, aivaulttest.Agent())
		if err != nil || len(list.Capabilities) < 100 || len(list.Available) != len(v.Registry.Providers()) {
			t.Fatalf("%d capabilities, %d providers, %v", len(list.Capabilities), len(list.Available), err)
		}
		for _, p := range list.Available {
			// One way in, not every way there is.
			if want := map[string]string{"slack": "SLACK_BOT_TOKEN", "trello": "TRELLO_API_KEY TRELLO_TOKEN", "twilio": "TWILIO_API_KEY TWILIO_API_SECRET", "youtube": "YOUTUBE_API_KEY"}[p.Provider]; want != "" && strings.Join(p.Secrets, " ") != want {
				t.Errorf("%s asks for %q, want %q", p.Provider, p.Secrets, want)
			}
		}
		for _, c := range list.Capabilities {
			if c.Ready || c.Reason == "" {
				t.Fatalf("%s is ready (%v) because %q", c.ID, c.Ready, c.Reason)
			}
		}
		d, err := v.Broker.Capability(background, aivaulttest.Agent(), "openai/chat-completions")
		if err != nil || d.Ready || !strings.Contains(d.Reason, reason) {
			t.Fatalf("%+v, %v", d, err)
		}
		if len(d.Setup.Commands) != 1 || d.Setup.Commands[0] != "aivault secrets create --name OPENAI_API_KEY" {
			t.Errorf("commands %q", d.Setup.Commands)
		}
		if d.Call.Defaults.Method != "POST" || d.Call.Defaults.Path != "/v1/chat/completions" || d.Allowed.Hosts[0] != "api.openai.com" {
			t.Errorf("%+v", d)
		}
	}
	look("vault")
	v.Create(t, "OPENAI_API_KEY", "sk-test-0123456789")
	mustInvoke(t, v, get("openai/models", "/v1/models"))
	if _, err := v.Admin.Lock(background, aivaulttest.Operator()); err != nil {
		t.Fatal(err)
	}
	mustRefuse(t, v, get("openai/models", "/v1/models"), api.VaultLocked)
	look("lock")
	if _, err := v.Admin.Unlock(background, aivaulttest.Operator(), api.Unlock{}); err != nil {
		t.Fatal(err)
	}
	mustInvoke(t, v, get("openai/models", "/v1/models"))
	if n := len(aivaulttest.Events(v.Records(t), "call.refused")); n != 1 {
		t.Errorf("%d refusals in the log: the one of the locked vault was due", n)
	}
}

package server_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/quota"
	"moldable.sh/aivault/internal/strictjson"
)

func explained(t *testing.T, s site, body string, header ...string) api.Explanation {
	t.Helper()
	resp, text := s.send(t, "POST", api.RouteExplain, body, header...)
	var e api.Explanation
	if err := strictjson.Unmarshal([]byte(text), &e); err != nil || resp.StatusCode != 200 || resp.Header.Get(api.HeaderAnswer) != "" {
		t.Fatalf("%d %s: %v", resp.StatusCode, text, err)
	}
	return e
}

func TestExplainTakesWhatProxyTakes(t *testing.T) {
	v, s := start(t, aivaulttest.Options{}, aivaulttest.Operator())
	v.Create(t, "OPENAI_API_KEY", key)
	if e := explained(t, s, chat); !e.Allowed || e.Planned.URL != "https://api.openai.com/v1/chat/completions" || len(e.Checks) < 10 {
		t.Errorf("%+v", e)
	}
	if e := explained(t, s, `{"capability":"openai/no-such","request":{}}`); e.Allowed || e.Error.Code != api.CapabilityNotFound || e.Command == "" {
		t.Errorf("%+v", e)
	}
	policy := api.PolicyChange{Capability: "openai/chat-completions", RequireJSON: []api.RequireJSON{{Pointer: "/model", Values: []string{"small"}}}}
	if _, err := v.Admin.SetPolicy(t.Context(), aivaulttest.Operator(), policy); err != nil {
		t.Fatal(err)
	}
	envelope := strings.Replace(noBody, "application/octet-stream", "application/json", 1)
	for _, length := range []string{"", "Content-Length: 17\r\n"} {
		for model, allowed := range map[string]bool{"small": true, "large": false} {
			kind, body := parts([3]string{"envelope", "", envelope}, [3]string{"body", length, `{"model":"` + model + `"}`})
			for range 3 {
				if e := explained(t, s, body, kind); e.Allowed != allowed {
					t.Errorf("%s: %+v", model, e.Error)
				}
			}
		}
	}
	// A body that nobody looks at is let pass, however long.
	kind, body := parts([3]string{"envelope", "", `{"capability":"openai/no-such","request":{}}`}, [3]string{"body", "", strings.Repeat("x", 20<<20)})
	if e := explained(t, s, body, kind); e.Error.Code != api.CapabilityNotFound {
		t.Errorf("%+v", e)
	}
	for what, bad := range map[string][2]string{
		"two bodies":      {`{"capability":"openai/chat-completions","request":{"body":"{}"}}`, "x"},
		"unknown fields":  {`{"capability":"openai/chat-completions","host":"evil.test"}`, "x"},
		"no part of body": {noBody, ""},
	} {
		list := [][3]string{{"envelope", "", bad[0]}}
		if bad[1] != "" {
			list = append(list, [3]string{"body", "", bad[1]})
		}
		kind, body := parts(list...)
		resp, text := s.send(t, "POST", api.RouteExplain, body, kind)
		refused(t, what, resp, text, 400, api.InvalidRequest)
	}
	resp, text := s.send(t, "POST", api.RouteExplain, `{"capability":"a/b","capability":"c/d"}`)
	refused(t, "a key given twice", resp, text, 400, api.InvalidRequest)
	if n := len(aivaulttest.Events(v.Records(t), "call.allowed", "call.refused", "call.finished")); n != 0 || len(v.API.Seen()) != 0 {
		t.Errorf("asking left %d records", n)
	}
}

func TestExplainTellsOthersTheCodeAlone(t *testing.T) {
	_, s := calling(t, nil)
	for body, want := range map[string]string{
		chat: `{"allowed":true}`,
		`{"capability":"openai/no-such","request":{}}`:                            `{"allowed":false,"error":{"error":"capability_not_found","message":""}}`,
		`{"capability":"openai/chat-completions","request":{"path":"/v1/files"}}`: `{"allowed":false,"error":{"error":"policy_violation","message":""}}`,
	} {
		if _, text := s.send(t, "POST", api.RouteExplain, body); strings.TrimSpace(text) != want {
			t.Errorf("%s: %s", body, text)
		}
	}
}

func TestARateIsRefusedWithTheSecondsToWait(t *testing.T) {
	at := quota.Now{BootID: "b", SinceBoot: time.Hour, Wall: time.Unix(1_800_000_000, 0)}
	v, s := start(t, aivaulttest.Options{QuotaClock: func() (quota.Now, error) { return at, nil }}, aivaulttest.Agent())
	v.Create(t, "OPENAI_API_KEY", key)
	one := 1
	if _, err := v.Admin.SetPolicy(t.Context(), aivaulttest.Operator(), api.PolicyChange{Capability: "openai/chat-completions", RatePerMinute: &one}); err != nil {
		t.Fatal(err)
	}
	if resp, text := s.send(t, "POST", api.RouteProxy, chat); resp.StatusCode != 200 {
		t.Fatalf("%d %s", resp.StatusCode, text)
	}
	for waited, seconds := range map[time.Duration]int{0: 60, 17*time.Second + 1: 43, 59*time.Second + 999_999_999: 1} {
		at.SinceBoot = time.Hour + waited
		resp, text := s.send(t, "POST", api.RouteProxy, chat)
		refused(t, waited.String(), resp, text, 429, api.RateLimited)
		var e api.Error
		if err := strictjson.Unmarshal([]byte(text), &e); err != nil {
			t.Fatal(err)
		}
		if want := (time.Minute - waited + time.Millisecond - 1).Milliseconds(); e.RetryAfterMs != want || resp.Header.Get("Retry-After") != strconv.Itoa(seconds) {
			t.Errorf("after %s: %d ms, Retry-After %s", waited, e.RetryAfterMs, resp.Header.Get("Retry-After"))
		}
	}
	at.SinceBoot = time.Hour + time.Minute
	if _, err := v.Broker.Explain(t.Context(), aivaulttest.Agent(), api.Call{Capability: "openai/chat-completions"}, egress.Body{}); err != nil {
		t.Error(err)
	}
	if resp, text := s.send(t, "POST", api.RouteProxy, chat); resp.StatusCode != 200 {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
}

package server

import (
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/strictjson"
)

func TestPlannedIsEncodedAsEverythingElse(t *testing.T) {
	for _, p := range []api.Planned{
		{},
		{Capability: "openai/chat-completions", Credential: "openai", Method: "POST", URL: "https://api.openai.com/v1/chat/completions?a=b&c=%22"},
		{Capability: "a\"b\\c", Credential: "\n\t\x00\x7f", Method: "<&>", URL: "é\u2028\U0001f600"},
	} {
		want, err := strictjson.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		got, err := appendPlanned(nil, &p)
		if err != nil || string(got) != string(want) {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
	if _, err := appendPlanned(nil, &api.Planned{URL: "\xff"}); err == nil {
		t.Error("invalid UTF-8 was encoded")
	}
}

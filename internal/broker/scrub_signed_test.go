package broker

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

// What is kept of a call's signature goes with the call: also with one that is
// not answered, and with the first of two that are sent for one.
func TestSignaturesAreWiped(t *testing.T) {
	t.Parallel()
	b := manyEntries(t, 10)
	b.egress = egress.New(egress.Config{Resolve: func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no") }})
	if _, err := b.vault.Update(t.Context(), audit.Record{Event: audit.CredentialCreated}, func(tx *vault.Tx) error {
		for i := range tx.State.Credentials {
			if c := &tx.State.Credentials[i]; c.ID == "p7" {
				c.Auth = &api.AuthSpec{Type: "hmac", HMAC: &api.HMACSpec{Algorithm: "sha256", Sign: "{path}", Output: api.AuthPlace{In: "header", Name: "X-Signature"}}}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	call := api.Call{Capability: "p7/all", Request: api.Request{Method: "GET", Path: "/v1/models"}}
	p := b.newPlan(grant.Caller{}, &call, egress.Body{})
	if _, err := b.decide(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if err := b.allow(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	closed := func(s *signed) bool {
		text, _ := s.text("nothing of it")
		return text == secret.Redacted
	}
	var sent []*signed
	for range 2 {
		if _, err := b.transmit(t.Context(), p, nil); api.CodeOf(err) != api.UpstreamUnreachable {
			t.Fatal(err)
		}
		sent = append(sent, p.signed)
	}
	if !closed(sent[0]) || closed(sent[1]) {
		t.Errorf("sent again: %v, %v", closed(sent[0]), closed(sent[1]))
	}
	if err := b.finish(p, outcome{err: errors.New("no answer")}); err == nil || !closed(sent[1]) {
		t.Errorf("finished: %v, %v", err, closed(sent[1]))
	}
}

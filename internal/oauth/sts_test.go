package oauth

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/standin"
)

const stsHost = "sts.eu-west-1.amazonaws.com"

// assumed is an answer of STS as its documentation shows it.
func assumed(id, key, session, until string) string {
	return `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleResult>
  <SourceIdentity>Alice</SourceIdentity>
    <AssumedRoleUser>
      <Arn>arn:aws:sts::123456789012:assumed-role/demo/TestAR</Arn>
      <AssumedRoleId>ARO123EXAMPLE123:TestAR</AssumedRoleId>
    </AssumedRoleUser>
    <Credentials>
      <AccessKeyId>` + id + `</AccessKeyId>
      <SecretAccessKey>` + key + `</SecretAccessKey>
      <SessionToken>
       ` + session + `
      </SessionToken>
      <Expiration>` + until + `</Expiration>
    </Credentials>
    <PackedPolicySize>6</PackedPolicySize>
  </AssumeRoleResult>
  <ResponseMetadata>
    <RequestId>c6104cbe-af31-11e0-8154-cbc7ccf896c7</RequestId>
  </ResponseMetadata>
</AssumeRoleResponse>`
}

// stsBench is a vault with an AWS key, and an STS that answers as answer says.
func stsBench(t *testing.T, answer func(n int, r *http.Request) (status int, body string)) (*bench, *Source, Want) {
	t.Helper()
	n := 0
	b := &bench{dir: t.TempDir(), clock: newClock()}
	started, err := standin.Start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		n++
		w.Header().Set("Content-Type", "text/xml")
		status, body := answer(n, r)
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}), stsHost)
	must(t, err)
	t.Cleanup(started.Close)
	b.api = started
	v := b.vault(t)
	must(t, v.Init(t.Context(), nil, keysource.Request{Provider: keysource.File}))
	b.put(t, "id", "AKIAOWN")
	b.put(t, "key", "own-secret-0123456789")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(started.CAPEM())
	s := New(Config{
		Vault: b.vault(t), Clock: b.clock.Now,
		Egress: egress.New(egress.Config{Roots: roots, Dial: map[string]netip.AddrPort{stsHost: started.Addr()}}),
		Sign: func(_ context.Context, fields map[string]secret.Value, r *policy.Request, to egress.Destination, body []byte, now time.Time) (egress.Additions, error) {
			text := fmt.Sprintf("%s %s to %s%s of %d bytes at %d", fields["access_key_id"].Expose(), r.Method(), to.Host, r.Target(), len(body), now.Unix())
			return egress.Additions{Headers: []egress.Field{{Name: "Authorization", Value: secret.FromString(text)}}}, nil
		},
	})
	t.Cleanup(s.Close)
	return b, s, Want{
		Spec:     api.AuthSpec{Type: "aws-sigv4", SigV4: &api.SigV4Spec{Fields: []string{"access_key_id", "secret_access_key"}, Service: "s3", Region: "eu-west-1"}},
		Options:  api.TokenOptions{RoleARN: "arn:aws:iam::123456789012:role/reader", ExternalID: "ext:1/2"},
		Secrets:  map[string]string{"access_key_id": "id", "secret_access_key": "key"},
		Provider: "aws", Renew: "aivault secrets rotate KEY",
		Exceptions: egress.Destination{AllowHTTP: true, AllowPrivate: true, AllowPorts: []int{1}},
	}
}

// A role's keys are had with the credential's own, kept, and renewed before
// they end.
func TestAssumeRole(t *testing.T) {
	var b *bench
	until := func() time.Time { return b.clock.Now().Add(time.Hour) }
	b, s, w := stsBench(t, func(n int, r *http.Request) (int, string) {
		want := "Action=AssumeRole&ExternalId=ext%3A1%2F2&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Freader&RoleSessionName=aivault&Version=2011-06-15"
		if got := r.PostForm.Encode(); got != want || r.Method != "POST" || r.RequestURI != "/" || r.Host != stsHost {
			t.Errorf("%s %s of %s: %s", r.Method, r.RequestURI, r.Host, got)
		}
		if got := r.Header.Get("Authorization"); got != fmt.Sprintf("AKIAOWN POST to %s/ of %d bytes at %d", stsHost, r.ContentLength, b.clock.Now().Unix()) {
			t.Errorf("signed: %q", got)
		}
		return 200, assumed(fmt.Sprintf("ASIA%d", n), "role-secret", "role+session/token==", until().UTC().Format("2006-01-02T15:04:05.000Z"))
	})
	for _, step := range []struct {
		pass time.Duration
		id   string
	}{{0, "ASIA1"}, {58 * time.Minute, "ASIA1"}, {61 * time.Second, "ASIA2"}, {time.Second, "ASIA2"}, {2 * time.Hour, "ASIA3"}} {
		b.clock.Add(step.pass)
		got := mustToken(t, s, w)
		if id := string(got.Fields["access_key_id"].Expose()); id != step.id {
			t.Errorf("after %v: %s", step.pass, id)
		}
		if len(got.Fields) != 3 || string(got.Fields["secret_access_key"].Expose()) != "role-secret" || string(got.Fields["session_token"].Expose()) != "role+session/token==" {
			t.Errorf("fields %d", len(got.Fields))
		}
		got.Wipe()
	}
}

// What is asked of STS for is another token, for each part of it.
func TestRolesHaveKeysOfTheirOwn(t *testing.T) {
	seen := map[string]string{}
	for name, edit := range map[string]func(w *Want){
		"as it is":         func(*Want) {},
		"role":             func(w *Want) { w.Options.RoleARN += "2" },
		"external id":      func(w *Want) { w.Options.ExternalID = "" },
		"id, not role":     func(w *Want) { w.Options.ExternalID = "2x" },
		"session":          func(w *Want) { w.Options.SessionName = "other" },
		"region":           func(w *Want) { w.Spec.SigV4 = &api.SigV4Spec{Region: "us-east-1"} },
		"secret":           func(w *Want) { w.Secrets = map[string]string{"access_key_id": "id", "secret_access_key": "key2"} },
		"session or id":    func(w *Want) { w.Options.ExternalID, w.Options.SessionName = "", "ext" },
		"id, not session ": func(w *Want) { w.Options.ExternalID, w.Options.SessionName = "ext", "" },
	} {
		w := Want{
			Spec:    api.AuthSpec{Type: "aws-sigv4", SigV4: &api.SigV4Spec{Region: "eu-west-1"}},
			Options: api.TokenOptions{RoleARN: "arn:aws:iam::123456789012:role/reader", ExternalID: "x"},
			Secrets: map[string]string{"access_key_id": "id", "secret_access_key": "key"},
		}
		edit(&w)
		key := KeyOf(&w)
		if other, twice := seen[key]; twice || key == "" {
			t.Errorf("%s and %s: %q", name, other, key)
		}
		seen[key] = name
	}
	plain := Want{Spec: api.AuthSpec{Type: "aws-sigv4", SigV4: &api.SigV4Spec{Region: "eu-west-1"}}}
	if KeyOf(&plain) != "" {
		t.Error("a signature without a role has a token")
	}
	named := Want{Spec: plain.Spec, Options: api.TokenOptions{RoleARN: "r", SessionName: "aivault"}}
	unnamed := Want{Spec: plain.Spec, Options: api.TokenOptions{RoleARN: "r"}}
	if KeyOf(&named) != KeyOf(&unnamed) {
		t.Error("the default session name makes another token")
	}
}

func TestSTSEndpoints(t *testing.T) {
	for region, want := range map[string]string{
		"eu-west-1":      "https://sts.eu-west-1.amazonaws.com/",
		"us-gov-west-1":  "https://sts.us-gov-west-1.amazonaws.com/",
		"cn-northwest-1": "https://sts.cn-northwest-1.amazonaws.com.cn/",
		"eusc-de-east-1": "https://sts.eusc-de-east-1.amazonaws.eu/",
	} {
		if got := stsEndpoint(&Want{Spec: api.AuthSpec{SigV4: &api.SigV4Spec{Region: region}}}); got != want {
			t.Errorf("%s: %s", region, got)
		}
	}
}

// Of an answer that is not STS's, or that it refuses with, nothing is used,
// and no more is told than a code that STS has.
func TestSTSAnswers(t *testing.T) {
	later := time.UnixMilli(1_780_000_000_000).Add(time.Hour).UTC().Format(time.RFC3339)
	good := assumed("ASIAROLE", "role-secret", "tok", later)
	refused := func(code string) string {
		return `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>` + code +
			`</Code><Message>User leaked-0123456789 is not authorized</Message></Error></ErrorResponse>`
	}
	for name, c := range map[string]struct {
		status int
		body   string
		want   string // in the error; "" is success
	}{
		"as documented":           {200, good, ""},
		"with a declaration":      {200, `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + good + "\n", ""},
		"escaped":                 {200, strings.Replace(good, "role-secret", "role&#45;secret", 1), ""},
		"refused":                 {403, refused("AccessDenied"), "gave no key: AccessDenied"},
		"a bad key":               {403, refused("InvalidClientTokenId"), "the credential's own keys are refused"},
		"region":                  {403, refused("RegionDisabledException"), "RegionDisabledException (status 403)"},
		"a code of its own":       {400, refused("leaked-0123456789"), "an unknown error (status 400)"},
		"an error that is no XML": {500, "leaked-0123456789", "an unknown error (status 500)"},
		"a redirect":              {302, "", "redirect"},
		"no XML":                  {200, "leaked-0123456789", "not the XML of STS"},
		"JSON":                    {200, `{"AssumeRoleResponse":{}}`, "not the XML of STS"},
		"cut":                     {200, good[:len(good)-30], "not the XML of STS"},
		"two documents":           {200, good + good, "not the XML of STS"},
		"text behind":             {200, good + "x", "not the XML of STS"},
		"a doctype":               {200, `<!DOCTYPE x [<!ENTITY e "leaked">]>` + good, "not the XML of STS"},
		"an instruction":          {200, good + `<?php x?>`, "not the XML of STS"},
		"an entity":               {200, strings.Replace(good, "role-secret", "&e;", 1), "not the XML of STS"},
		"a comment within":        {200, strings.Replace(good, "role-secret", "role<!-- x -->-secret", 1), "not the XML of STS"},
		"an element within":       {200, strings.Replace(good, "role-secret", "role<b/>-secret", 1), "not the XML of STS"},
		"another charset":         {200, `<?xml version="1.0" encoding="ISO-8859-1"?>` + good, "not the XML of STS"},
		"a key twice":             {200, strings.Replace(good, "<SecretAccessKey>", "<AccessKeyId>x</AccessKeyId><SecretAccessKey>", 1), "not the XML of STS"},
		"deep":                    {200, strings.Repeat("<a>", 20) + strings.Repeat("</a>", 20), "not the XML of STS"},
		"long":                    {200, "<a>" + strings.Repeat("<b></b>", 1000) + "</a>", "not the XML of STS"},
		"another answer":          {200, strings.ReplaceAll(good, "AssumeRole", "GetSession"), "has no "},
		"no secret":               {200, strings.Replace(good, "role-secret", "", 1), "no SecretAccessKey"},
		"a secret of two words":   {200, strings.Replace(good, "role-secret", "role secret", 1), "no SecretAccessKey"},
		"no end":                  {200, strings.Replace(good, later, "", 1), "when its keys end"},
		"an end that is over":     {200, strings.Replace(good, later, "2020-01-01T00:00:00Z", 1), "when its keys end"},
		"larger than is read":     {200, good + strings.Repeat(" ", maxAnswer), "not the XML of STS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, s, w := stsBench(t, func(int, *http.Request) (int, string) { return c.status, c.body })
			got, err := s.Token(t.Context(), w)
			defer got.Wipe()
			if c.want == "" {
				if err != nil || !strings.HasPrefix(string(got.Fields["secret_access_key"].Expose()), "role") {
					t.Fatal(err)
				}
				return
			}
			if api.CodeOf(err) != api.OAuthRefreshFailed || !strings.Contains(err.Error(), c.want) || got.Fields != nil {
				t.Fatalf("%v; want %q", err, c.want)
			}
			if text := err.Error() + api.AsError(err).Hint; strings.Contains(text, "leaked") || strings.Contains(text, "role-secret") {
				t.Errorf("the error repeats the answer: %s", text)
			}
			// Nothing was used up: the next call asks again.
			if _, err := s.Token(t.Context(), w); err == nil || strings.Contains(err.Error(), "used up") {
				t.Errorf("the next time: %v", err)
			}
		})
	}
}

// The exceptions of a custom credential are for its own hosts, and not for
// AWS's STS.
func TestSTSHasNoExceptions(t *testing.T) {
	_, _, w := stsBench(t, func(int, *http.Request) (int, string) { return 500, "" })
	a := &asking{want: &w}
	r, err := buildAssumeRole(t.Context(), a)
	must(t, err)
	to, _, err := target(&w, r)
	if err != nil || to.AllowPrivate || to.AllowHTTP || to.AllowPorts != nil || to.Host != stsHost || !to.Alone {
		t.Errorf("%+v, %v", to, err)
	}
	for _, region := range []string{"", "{region}", "{by-host}"} {
		w.Spec.SigV4 = &api.SigV4Spec{Region: region}
		if _, err := buildAssumeRole(t.Context(), a); api.CodeOf(err) != api.AuthFailed {
			t.Errorf("%q: %v", region, err)
		}
	}
}

func FuzzReadXML(f *testing.F) {
	f.Add(assumed("a", "b", "c", "d"))
	f.Add("<a/>")
	f.Add("<a><b>&lt;</b></a>")
	f.Fuzz(func(t *testing.T, document string) {
		found, ok := readXML([]byte(document), []string{"a/b", "AssumeRoleResponse/AssumeRoleResult/Credentials/AccessKeyId"})
		if ok && !strings.Contains(document, "<") {
			t.Fatal("a document without an element")
		}
		for place := range found {
			if !strings.Contains(document, place[strings.LastIndexByte(place, '/')+1:]) {
				t.Fatalf("%s was found in %q", place, document)
			}
		}
	})
}

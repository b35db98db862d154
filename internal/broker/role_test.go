package broker_test

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/standin"
)

// roles is a stand-in for STS, which gives keys of roles to who signs with the
// right key, and an S3 that knows these keys alone.
type roles struct {
	mu    sync.Mutex
	asked []url.Values
	sts   *standin.SigV4
	s3    *standin.SigV4
	clock func() time.Time
}

const (
	roleSecret  = "roleSecretAccessKey0123456789abcdefghij"
	roleSession = "roleSessionToken0123456789+/abcdefghij=="
)

func (r *roles) answer(raw []byte) (int, string) {
	_, body, _ := strings.Cut(string(raw), "\r\n\r\n")
	form, err := url.ParseQuery(body)
	if err != nil {
		return 400, ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, form)
	if form.Get("ExternalId") != "ext-4f2a" {
		return 403, `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>`
	}
	n := len(r.asked)
	id, key, session := fmt.Sprintf("ASIAROLE%d", n), fmt.Sprint(roleSecret, n), fmt.Sprint(roleSession, n)
	r.s3.Know(id, key, session)
	return 200, `<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>` + id + `</AccessKeyId><SecretAccessKey>` + key + `</SecretAccessKey><SessionToken>` +
		session + `</SessionToken><Expiration>` + r.clock().Add(time.Hour).UTC().Format(time.RFC3339) + `</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`
}

func startRoles(t *testing.T, s3Host string, clock func() time.Time) (*aivaulttest.Aivault, *roles) {
	t.Helper()
	r := &roles{sts: service("sts", "eu-west-1"), s3: &standin.SigV4{Service: "s3", Region: "eu-west-1", Now: clock}, clock: clock}
	r.sts.Now = clock
	options := aivaulttest.Options{Clock: clock, Egress: func(c *egress.Config) {
		for host, up := range map[string]*standin.SigV4{"sts.eu-west-1.amazonaws.com": r.sts, s3Host: r.s3} {
			answer := r.answer
			if up == r.s3 {
				answer = func(raw []byte) (int, string) { return 200, string(raw) }
			}
			a, err := standin.StartAWS(up, answer, host)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(a.Close)
			c.Dial[host] = a.Addr()
			c.Roots.AppendCertsFromPEM(a.CAPEM())
		}
	}}
	return start(t, options), r
}

// Calls are made with keys of the role, which are had with the credential's
// own, kept for the next calls, and renewed before they end. An answer that
// repeats them holds none.
func TestCallsAsARole(t *testing.T) {
	now := time.Now()
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	role := &api.TokenOptions{RoleARN: "arn:aws:iam::123456789012:role/path/reader", ExternalID: "ext-4f2a", SessionName: "agent"}
	for name, c := range map[string]struct {
		host       string
		secrets    map[string]string // name -> value
		credential api.CredentialCreate
		capability string
	}{
		"registry": {"s3.eu-west-1.amazonaws.com", map[string]string{"AWS_ACCESS_KEY_ID": awsID, "AWS_SECRET_ACCESS_KEY": awsSecret}, api.CredentialCreate{
			ID: "audit", Provider: "aws", Hosts: []string{"s3.eu-west-1.amazonaws.com"},
			SecretRefs: map[string]string{"access_key_id": "AWS_ACCESS_KEY_ID", "secret_access_key": "AWS_SECRET_ACCESS_KEY"},
		}, "aws/s3-objects-read"},
		"registry, temporary key": {"s3.eu-west-1.amazonaws.com", map[string]string{"AWS_ACCESS_KEY_ID": "ASIA0123456789ABCDEF", "AWS_SECRET_ACCESS_KEY": awsSecret, "AWS_SESSION_TOKEN": awsSession}, api.CredentialCreate{
			ID: "audit", Provider: "aws", Hosts: []string{"s3.eu-west-1.amazonaws.com"},
			SecretRefs: map[string]string{"access_key_id": "AWS_ACCESS_KEY_ID", "secret_access_key": "AWS_SECRET_ACCESS_KEY", "session_token": "AWS_SESSION_TOKEN"},
		}, "aws/s3-objects-read"},
		"registry, whole key": {"s3.eu-west-1.amazonaws.com", map[string]string{"AWS_CREDENTIALS": "[default]\naws_access_key_id=" + awsID + "\naws_secret_access_key=" + awsSecret}, api.CredentialCreate{
			ID: "audit", Provider: "aws", Hosts: []string{"s3.eu-west-1.amazonaws.com"}, SecretRefs: map[string]string{"profile": "AWS_CREDENTIALS"},
		}, "aws/s3-objects-read"},
		"custom": {"bucket.s3.eu-west-1.amazonaws.com", map[string]string{"MINE_ID": awsID, "MINE_KEY": awsSecret}, api.CredentialCreate{
			ID: "audit", Provider: "mine", Hosts: []string{"bucket.s3.eu-west-1.amazonaws.com"}, SecretRefs: map[string]string{"access_key_id": "MINE_ID", "secret_access_key": "MINE_KEY"},
			Auth: &api.AuthSpec{Type: "aws-sigv4", SigV4: &api.SigV4Spec{Fields: []string{"access_key_id", "secret_access_key", "session_token?"}, Service: "{by-host}", Region: "{by-host}"}},
		}, "mine/read"},
		"custom, no session token of its own": {"bucket.s3.eu-west-1.amazonaws.com", map[string]string{"MINE_ID": awsID, "MINE_KEY": awsSecret}, api.CredentialCreate{
			ID: "audit", Provider: "mine", Hosts: []string{"bucket.s3.eu-west-1.amazonaws.com"}, SecretRefs: map[string]string{"access_key_id": "MINE_ID", "secret_access_key": "MINE_KEY"},
			Auth: &api.AuthSpec{Type: "aws-sigv4", SigV4: &api.SigV4Spec{Fields: []string{"access_key_id", "secret_access_key"}, Service: "s3", Region: "eu-west-1"}},
		}, "mine/read"},
		"custom, whole key": {"bucket.s3.eu-west-1.amazonaws.com", map[string]string{"MINE": "[default]\naws_access_key_id=" + awsID + "\naws_secret_access_key=" + awsSecret}, api.CredentialCreate{
			ID: "audit", Provider: "mine", Hosts: []string{"bucket.s3.eu-west-1.amazonaws.com"}, SecretRefs: map[string]string{"key": "MINE"},
			Auth: &api.AuthSpec{Type: "aws-sigv4", SigV4: &api.SigV4Spec{Fields: []string{"key"}, Service: "s3", Region: "eu-west-1"}},
		}, "mine/read"},
	} {
		t.Run(name, func(t *testing.T) {
			v, up := startRoles(t, c.host, clock)
			for _, name := range sortedKeys(c.secrets) {
				v.Create(t, name, c.secrets[name])
			}
			c.credential.Token = role
			credential(t, v, c.credential)
			if c.credential.Auth != nil {
				capability(t, v, api.CapabilityCreate{ID: c.capability, Provider: "mine", Methods: []string{"GET"}, Paths: []string{"/"}})
			}
			call := get(c.capability, "/bucket/k")
			call.Credential = "audit"
			for range 3 {
				answer, body, err := v.Invoke(call)
				if err != nil || answer.Status != 200 {
					t.Fatal(err, body)
				}
				for _, value := range []string{roleSecret, roleSession, awsSecret, awsSession} {
					if strings.Contains(body, value) {
						t.Errorf("the answer repeats %q", value)
					}
				}
			}
			if len(up.asked) != 1 {
				t.Errorf("STS was asked %d times", len(up.asked))
			}
			if list, err := v.Admin.OAuth(background, aivaulttest.Operator()); err != nil || len(list.Tokens) != 1 || list.Tokens[0].State != "good" {
				t.Errorf("oauth status: %+v, %v", list.Tokens, err)
			}
			if got, want := up.asked[0].Encode(), "Action=AssumeRole&ExternalId=ext-4f2a&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fpath%2Freader&RoleSessionName=agent&Version=2011-06-15"; got != want {
				t.Errorf("asked for %s", got)
			}
			mu.Lock()
			now = now.Add(59*time.Minute + time.Second)
			mu.Unlock()
			mustInvoke(t, v, call)
			if len(up.asked) != 2 {
				t.Errorf("after an hour, STS was asked %d times", len(up.asked))
			}
			noneOnDisk(t, v, roleSecret, roleSession)
		})
	}
}

// A role that may not be assumed is said to be so, and nothing is called.
func TestRoleThatIsRefused(t *testing.T) {
	v, up := startRoles(t, "s3.eu-west-1.amazonaws.com", time.Now)
	v.Create(t, "AWS_ACCESS_KEY_ID", awsID)
	v.Create(t, "AWS_SECRET_ACCESS_KEY", awsSecret)
	credential(t, v, api.CredentialCreate{
		ID: "audit", Provider: "aws", Hosts: []string{"s3.eu-west-1.amazonaws.com"},
		SecretRefs: map[string]string{"access_key_id": "AWS_ACCESS_KEY_ID", "secret_access_key": "AWS_SECRET_ACCESS_KEY"},
		Token:      &api.TokenOptions{RoleARN: "arn:aws:iam::123456789012:role/reader"},
	})
	call := get("aws/s3-objects-read", "/bucket/k")
	call.Credential = "audit"
	if e := mustRefuse(t, v, call, api.OAuthRefreshFailed); !strings.Contains(e.Message, "AccessDenied") {
		t.Error(e)
	}
	// The credential of the registry's own making has no role, and is another.
	call.Credential = "aws"
	if len(up.asked) != 1 {
		t.Errorf("STS was asked %d times", len(up.asked))
	}
}

// What nothing would heed, and what AWS would not take, is refused when it is
// said.
func TestRolesAreChecked(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	v.Create(t, "AWS_ACCESS_KEY_ID", awsID)
	v.Create(t, "AWS_SECRET_ACCESS_KEY", awsSecret)
	v.Create(t, "OPENAI_API_KEY", "sk-test-0123456789")
	v.Create(t, "R2_ID", awsID)
	v.Create(t, "R2_KEY", awsSecret)
	const arn = "arn:aws:iam::123456789012:role/reader"
	aws := api.CredentialCreate{ID: "x", Provider: "aws", SecretRefs: map[string]string{"access_key_id": "AWS_ACCESS_KEY_ID", "secret_access_key": "AWS_SECRET_ACCESS_KEY"}}
	r2 := api.CredentialCreate{
		ID: "x", Provider: "r2", Hosts: []string{aivaulttest.CustomHost}, SecretRefs: map[string]string{"access_key_id": "R2_ID", "secret_access_key": "R2_KEY"},
		Auth: &api.AuthSpec{Type: "aws-sigv4", SigV4: &api.SigV4Spec{Fields: []string{"access_key_id", "secret_access_key"}, Service: "s3", Region: "{by-host}"}},
	}
	openai := api.CredentialCreate{ID: "x", Provider: "openai", SecretRefs: map[string]string{"": "OPENAI_API_KEY"}}
	for name, c := range map[string]struct {
		credential api.CredentialCreate
		options    api.TokenOptions
		want       string
	}{
		"no ARN":                {aws, api.TokenOptions{RoleARN: "reader"}, "it takes an ARN"},
		"ARN of a user":         {aws, api.TokenOptions{RoleARN: "arn:aws:iam::123456789012:user/x"}, "it takes an ARN"},
		"ARN with a line break": {aws, api.TokenOptions{RoleARN: arn + "\n"}, "it takes an ARN"},
		"external id":           {aws, api.TokenOptions{RoleARN: arn, ExternalID: "a b"}, "external id"},
		"session name":          {aws, api.TokenOptions{RoleARN: arn, SessionName: "a/b"}, "session name"},
		"no role":               {aws, api.TokenOptions{ExternalID: "abc"}, "go with a role"},
		"not AWS":               {openai, api.TokenOptions{RoleARN: arn}, "no login with tokens"},
		"scopes of AWS":         {aws, api.TokenOptions{RoleARN: arn, Scopes: []string{"x"}}, "scopes could be about"},
		"a subject of AWS":      {aws, api.TokenOptions{Subject: "x"}, "a subject could be about"},
		"permissions of AWS":    {aws, api.TokenOptions{Permissions: map[string]string{"contents": "read"}}, "permissions could be about"},
		"no region":             {r2, api.TokenOptions{RoleARN: arn}, "which AWS region"},
	} {
		c.credential.Token = &c.options
		_, err := v.Admin.CreateCredential(background, aivaulttest.Operator(), c.credential)
		if api.CodeOf(err) != api.InvalidRequest || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	aws.Token = &api.TokenOptions{RoleARN: "arn:aws-us-gov:iam::123456789012:role/a/b+c", ExternalID: "a:b/c", SessionName: "x@y"}
	made, err := v.Admin.CreateCredential(background, aivaulttest.Operator(), aws)
	if err != nil || made.Token == nil || made.Token.RoleARN != aws.Token.RoleARN {
		t.Errorf("%+v, %v", made, err)
	}
}

package broker_test

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/standin"
)

const (
	awsID      = "AKIDEXAMPLE0123456789"
	awsSecret  = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	awsSession = "FwoGZXIvYXdzEBYaDKsessionsessionsession="
)

// awsServices starts a stand-in for each host of AWS's, and an aivault whose
// calls to these hosts come there.
func awsServices(t *testing.T, clock func() time.Time, services map[string]*standin.SigV4) (*aivaulttest.Aivault, map[string]*standin.AWS) {
	t.Helper()
	up := map[string]*standin.AWS{}
	for host, verify := range services {
		a, err := standin.StartAWS(verify, func(raw []byte) (int, string) { return 200, string(raw) }, host)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(a.Close)
		up[host] = a
	}
	v := start(t, aivaulttest.Options{Clock: clock, Egress: func(c *egress.Config) {
		for host, a := range up {
			c.Dial[host] = a.Addr()
			c.Roots.AppendCertsFromPEM(a.CAPEM())
		}
	}})
	return v, up
}

func service(name, region string) *standin.SigV4 {
	v := &standin.SigV4{Service: name, Region: region}
	v.Know(awsID, awsSecret, "")
	v.Know("ASIA0123456789ABCDEF", awsSecret, awsSession)
	return v
}

func request(capability, method, path, body string, headers ...string) api.Call {
	c := api.Call{Capability: capability, Request: api.Request{Method: method, Path: path}}
	if body != "" {
		c.Request.Body = &body
	}
	for i := 0; i < len(headers); i += 2 {
		c.Request.Headers = append(c.Request.Headers, api.Header{Name: headers[i], Value: headers[i+1]})
	}
	return c
}

// Calls of the registry's provider are accepted by services that check
// signatures, with each way to store a key; what they repeat holds none of it.
func TestAWSCalls(t *testing.T) {
	const target = "X-Amz-Target"
	calls := []api.Call{
		request("aws/s3-objects-read", "GET", "/my-bucket/reports/may%20(1)/$é.csv?versionId=a/b&x", ""),
		request("aws/s3-objects-write", "PUT", "/my-bucket/test$file.text", "Welcome to Amazon S3.", "X-Amz-Storage-Class", "STANDARD", "Content-Type", "text/plain"),
		request("aws/dynamodb-read", "POST", "/", `{"TableName":"users"}`, target, "DynamoDB_20120810.GetItem", "Content-Type", "application/x-amz-json-1.0"),
		request("aws/sqs-send", "POST", "/", `{"MessageBody":"é"}`, target, "AmazonSQS.SendMessage", "Content-Type", "application/x-amz-json-1.0"),
		request("aws/bedrock-invoke", "POST", "/model/anthropic.claude-sonnet-4-5-20250929-v1:0/converse", `{"messages":[]}`),
		request("aws/ses-send", "POST", "/v2/email/outbound-emails", `{"Content":{}}`),
		request("aws/lambda-invoke", "POST", "/2015-03-31/functions/arn:aws:lambda:us-east-1:123456789012:function:resize/invocations", `{}`),
	}
	for name, secrets := range map[string]map[string]string{
		"two":        {"AWS_ACCESS_KEY_ID": awsID, "AWS_SECRET_ACCESS_KEY": awsSecret},
		"three":      {"AWS_ACCESS_KEY_ID": "ASIA0123456789ABCDEF", "AWS_SECRET_ACCESS_KEY": awsSecret, "AWS_SESSION_TOKEN": awsSession},
		"a profile":  {"AWS_CREDENTIALS": "[default]\naws_access_key_id = " + awsID + "\naws_secret_access_key = " + awsSecret + "\nregion = eu-west-1\n"},
		"of session": {"AWS_CREDENTIALS": `{"Credentials":{"AccessKeyId":"ASIA0123456789ABCDEF","SecretAccessKey":"` + awsSecret + `","SessionToken":"` + awsSession + `"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, up := awsServices(t, nil, map[string]*standin.SigV4{
				"s3.us-east-1.amazonaws.com":              service("s3", "us-east-1"),
				"dynamodb.us-east-1.amazonaws.com":        service("dynamodb", "us-east-1"),
				"sqs.us-east-1.amazonaws.com":             service("sqs", "us-east-1"),
				"bedrock-runtime.us-east-1.amazonaws.com": service("bedrock", "us-east-1"),
				"email.us-east-1.amazonaws.com":           service("ses", "us-east-1"),
				"lambda.us-east-1.amazonaws.com":          service("lambda", "us-east-1"),
			})
			for _, name := range sortedKeys(secrets) {
				v.Create(t, name, secrets[name])
			}
			for _, call := range calls {
				answer, body, err := v.Invoke(call)
				if err != nil || answer.Status != 200 {
					t.Errorf("%s: %v %s", call.Capability, err, body)
					continue
				}
				for _, value := range []string{awsSecret, awsSession} {
					if strings.Contains(body, value) {
						t.Errorf("%s: the answer repeats %q", call.Capability, value)
					}
				}
			}
			for host, a := range up {
				if len(a.Seen()) == 0 {
					t.Errorf("%s was not called", host)
				}
			}
			if name == "three" {
				allowed := aivaulttest.Events(v.Records(t), "call.allowed")
				if used := len(allowed[len(allowed)-1]["secrets"].([]any)); used != 3 {
					t.Errorf("a call is recorded with %d secrets", used)
				}
			}
		})
	}
}

// s3Bucket is an account at a service with S3's rules that is no host of
// AWS's own.
func s3Bucket(t *testing.T, answer func([]byte) (int, string)) (*aivaulttest.Aivault, *standin.AWS) {
	t.Helper()
	up, err := standin.StartAWS(service("s3", "auto"), answer, aivaulttest.CustomHost)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	v := start(t, aivaulttest.Options{Egress: func(c *egress.Config) {
		c.Dial[aivaulttest.CustomHost] = up.Addr()
		c.Roots.AppendCertsFromPEM(up.CAPEM())
	}})
	v.Create(t, "R2_ID", awsID)
	v.Create(t, "R2_KEY", awsSecret)
	credential(t, v, api.CredentialCreate{
		ID: "r2", Provider: "r2", SecretRefs: map[string]string{"access_key_id": "R2_ID", "secret_access_key": "R2_KEY"}, Hosts: []string{aivaulttest.CustomHost},
		Auth: &api.AuthSpec{Type: "aws-sigv4", SigV4: &api.SigV4Spec{Fields: []string{"access_key_id", "secret_access_key", "session_token?"}, Service: "s3", Region: "auto"}},
	})
	capability(t, v, api.CapabilityCreate{ID: "r2/all", Methods: []string{"GET", "PUT"}, Paths: []string{"/"}})
	return v, up
}

// A body is signed where it is in memory, and goes out unsigned, over TLS and
// with its length, where it is too long for that. What comes without a length
// is read first.
func TestBodiesThatAreSigned(t *testing.T) {
	v, up := s3Bucket(t, nil)
	short := strings.Repeat("0123456789abcdef", 1<<12)
	long := strings.Repeat("0123456789abcdef", policy.MaxInspected>>4) + "!"
	for name, c := range map[string]struct {
		body   egress.Body
		signed bool
		code   api.Code
	}{
		"nothing":              {egress.Body{}, true, ""},
		"short":                {egress.Body{Reader: strings.NewReader(short), Length: int64(len(short))}, true, ""},
		"short, of no length":  {egress.Body{Reader: io.MultiReader(strings.NewReader(short)), Length: -1}, true, ""},
		"empty, of no length":  {egress.Body{Reader: strings.NewReader(""), Length: -1}, true, ""},
		"as long as it may be": {egress.Body{Reader: strings.NewReader(long[1:]), Length: policy.MaxInspected}, true, ""},
		"long":                 {egress.Body{Reader: strings.NewReader(long), Length: int64(len(long))}, false, ""},
		"long, of no length":   {egress.Body{Reader: strings.NewReader(long), Length: -1}, false, api.RequestTooLarge},
		"shorter than it says": {egress.Body{Reader: strings.NewReader(short), Length: 1 << 17}, false, api.InvalidRequest},
	} {
		before := len(up.Seen())
		answer, err := v.Broker.Do(background, aivaulttest.Agent(), request("r2/all", "PUT", "/bucket/k", ""), c.body)
		if api.CodeOf(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			if len(up.Seen()) != before {
				t.Errorf("%s: it went out", name)
			}
			continue
		}
		if text, err := io.ReadAll(answer.Body); err != nil || answer.Status != 200 {
			t.Errorf("%s: %d %s, %v", name, answer.Status, text, err)
		}
		answer.Body.Close()
		raw := up.Seen()[before]
		if got := !bytes.Contains(raw, []byte("X-Amz-Content-Sha256: UNSIGNED-PAYLOAD\r\n")); got != c.signed {
			t.Errorf("%s: signed is %v", name, got)
		}
	}
	e := explain(t, v, aivaulttest.Operator(), request("r2/all", "PUT", "/bucket/k", ""), egress.Body{Reader: strings.NewReader(long), Length: int64(len(long))})
	if check := checkNamed(t, e, "signed body"); !strings.Contains(check.Detail, "goes out unsigned") {
		t.Errorf("%+v", check)
	}
	e = explain(t, v, aivaulttest.Operator(), request("r2/all", "PUT", "/bucket/k", "four"), egress.Body{})
	if check := checkNamed(t, e, "signed body"); check.Detail != "all 4 bytes are signed" {
		t.Errorf("%+v", check)
	}
}

func checkNamed(t *testing.T, e api.Explanation, name string) api.Check {
	t.Helper()
	for _, c := range e.Checks {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no check %q: %+v", name, e)
	return api.Check{}
}

// Other services sign every body, and take none that is too long for that.
func TestOnlyS3LeavesBodiesUnsigned(t *testing.T) {
	v, up := awsServices(t, nil, map[string]*standin.SigV4{"lambda.us-east-1.amazonaws.com": service("lambda", "us-east-1")})
	v.Create(t, "AWS_ACCESS_KEY_ID", awsID)
	v.Create(t, "AWS_SECRET_ACCESS_KEY", awsSecret)
	for _, length := range []int64{policy.MaxInspected + 1, -1} {
		body := egress.Body{Reader: strings.NewReader(strings.Repeat(" ", policy.MaxInspected+1)), Length: length}
		_, err := v.Broker.Do(background, aivaulttest.Agent(), request("aws/lambda-invoke", "POST", "/2015-03-31/functions/resize/invocations", ""), body)
		if api.CodeOf(err) != api.RequestTooLarge || !strings.Contains(err.Error(), "signs the body") {
			t.Errorf("%d: %v", length, err)
		}
	}
	if n := len(up["lambda.us-east-1.amazonaws.com"].Seen()); n != 0 {
		t.Errorf("%d calls went out", n)
	}
}

// A vault that changes while a body comes in is asked again, as it is where a
// policy reads one.
func TestVaultChangesWhileABodyIsSigned(t *testing.T) {
	v, up := s3Bucket(t, nil)
	body := io.MultiReader(strings.NewReader("abc"), readerFunc(func(p []byte) (int, error) {
		if _, err := v.Admin.DeleteCredential(background, aivaulttest.Operator(), "r2"); err != nil && api.CodeOf(err) != api.CredentialNotFound {
			t.Error(err)
		}
		return 0, io.EOF
	}))
	_, err := v.Broker.Do(background, aivaulttest.Agent(), request("r2/all", "PUT", "/bucket/k", ""), egress.Body{Reader: body, Length: 3})
	if api.CodeOf(err) != api.CredentialNotFound || len(up.Seen()) != 0 {
		t.Errorf("%v, and %d calls went out", err, len(up.Seen()))
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// What is the signature's is not the caller's, in the header and the query.
func TestSignatureIsNotTheCallers(t *testing.T) {
	v, up := s3Bucket(t, nil)
	for _, call := range []api.Call{
		request("r2/all", "GET", "/b/k?X-Amz-Signature=1", ""),
		request("r2/all", "GET", "/b/k?x-amz-algorithm=AWS4-HMAC-SHA256", ""),
		request("r2/all", "GET", "/b/k?X%2DAmz-Credential=1", ""),
		request("r2/all", "GET", "/b/k", "", "X-Amz-Date", "20130524T000000Z"),
		request("r2/all", "GET", "/b/k", "", "X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"),
		request("r2/all", "GET", "/b/k", "", "x-amz-security-token", "x"),
		request("r2/all", "GET", "/b/k", "", "Authorization", "x"),
	} {
		mustRefuse(t, v, call, api.PolicyViolation)
	}
	mustRefuse(t, v, request("r2/all", "GET", "/b/a+b", ""), api.InvalidRequest)
	if n := len(up.Seen()); n != 0 {
		t.Errorf("%d calls went out", n)
	}
}

// A key is looked at when it is stored, and what is wrong is named and not
// repeated.
func TestAWSKeysAreCheckedWhenStored(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	for name, value := range map[string]string{
		"AWS_SECRET_ACCESS_KEY": "wJalr XUtn0123456789",
		"AWS_ACCESS_KEY_ID":     "AKIA/0123456789",
		"AWS_SESSION_TOKEN":     "Fwo\tGZX0123456789",
		"AWS_CREDENTIALS":       "[default]\naws_access_key_id = AKIA0123456789\n",
	} {
		_, err := v.Admin.CreateSecret(background, aivaulttest.Operator(), api.SecretCreate{Name: name, Value: secret.FromString(value)})
		if api.CodeOf(err) != api.InvalidRequest || strings.Contains(err.Error(), "0123456789") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A temporary key waits for its session token, whichever comes first.
	v.Create(t, "AWS_ACCESS_KEY_ID", "ASIA0123456789ABCDEF")
	v.Create(t, "AWS_SECRET_ACCESS_KEY", awsSecret)
	if e := mustRefuse(t, v, request("aws/s3-objects-read", "GET", "/", ""), api.AuthFailed); !strings.Contains(e.Message, `"session_token"`) {
		t.Error(e)
	}
}

// A session that has ended is not asked with.
func TestEndedSessionsAreNotSent(t *testing.T) {
	now := time.Now()
	clock := func() time.Time { return now }
	s3 := service("s3", "us-east-1")
	s3.Now = clock
	v, _ := awsServices(t, clock, map[string]*standin.SigV4{"s3.us-east-1.amazonaws.com": s3})
	v.Create(t, "AWS_CREDENTIALS", `{"AccessKeyId":"ASIA0123456789ABCDEF","SecretAccessKey":"`+awsSecret+`","SessionToken":"`+awsSession+`","Expiration":"`+
		now.Add(time.Hour).UTC().Format(time.RFC3339)+`"}`)
	mustInvoke(t, v, request("aws/s3-objects-read", "GET", "/", ""))
	now = now.Add(time.Hour)
	if e := mustRefuse(t, v, request("aws/s3-objects-read", "GET", "/", ""), api.AuthFailed); !strings.Contains(e.Message, "ended at") {
		t.Error(e)
	}
}

// AWS repeats a signature by itself when it refuses a request. Who had it back
// could try again with it.
func TestSignatureAloneIsScrubbed(t *testing.T) {
	v, up := s3Bucket(t, func(raw []byte) (int, string) {
		_, signature, _ := strings.Cut(string(raw), "Signature=")
		return 403, "<SignatureProvided>" + signature[:64] + "</SignatureProvided>"
	})
	_, body, err := v.Invoke(request("r2/all", "GET", "/b/k", ""))
	if err != nil || body != "<SignatureProvided>[redacted]</SignatureProvided>" || len(up.Seen()) != 1 {
		t.Errorf("%q, %v", body, err)
	}
}

// Over HTTP/2, which writes a request otherwise, the same is signed.
func TestSignedOverHTTP2(t *testing.T) {
	const host = "dynamodb.us-east-1.amazonaws.com"
	v := start(t, aivaulttest.Options{Hosts: []string{host}})
	v.Create(t, "AWS_ACCESS_KEY_ID", awsID)
	v.Create(t, "AWS_SECRET_ACCESS_KEY", awsSecret)
	mustInvoke(t, v, request("aws/dynamodb-read", "POST", "/", `{"TableName":"users"}`, "X-Amz-Target", "DynamoDB_20120810.GetItem"))
	seen := v.API.Seen()[0]
	if err := service("dynamodb", "us-east-1").Check(seen.Raw()); err != nil || seen.Proto != "HTTP/2.0" {
		t.Errorf("%s: %v\n%s", seen.Proto, err, seen.Raw())
	}
}

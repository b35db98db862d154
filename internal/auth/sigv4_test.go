package auth

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/standin"
)

const (
	testAWSID      = "AKIDEXAMPLE0123456789"
	testAWSSecret  = "wJalrXUtnFEMI/K7MDENG+0123456789"
	testAWSSession = "FwoGZXIvYXdzEBYaDK-0123456789/+="
)

func sigv4Suites() []suite {
	spec := func(service, region string, fields ...string) api.AuthSpec {
		return api.AuthSpec{Type: "aws-sigv4", SigV4: &api.SigV4Spec{Fields: fields, Service: service, Region: region}}
	}
	three := []string{awsKeyID, awsSecret, awsSession + "?"}
	params := []string{
		"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Security-Token",
	}
	keys := map[string]string{awsKeyID: testAWSID, awsSecret: testAWSSecret}
	const date = "X-Amz-Date: 20231114T221320Z"
	return []suite{{
		spec: spec("service", "us-east-1", three...), fields: keys, params: params,
		wire: []string{"Authorization: AWS4-HMAC-SHA256 Credential=" + testAWSID + "/20231114/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, " +
			"Signature=280a6164f59a66ec28a9bcf9f280c8d33359ce14eb03367990b32b473f431f4d", date},
		open: []string{date},
		bad: []api.AuthSpec{
			{Type: "aws-sigv4"},
			spec("s3", "us-east-1"),
			spec("s3", "us-east-1", awsKeyID),
			spec("s3", "us-east-1", awsKeyID, awsSession),
			spec("s3", "us-east-1", awsKeyID, awsSecret, "token"),
			spec("s3", "us-east-1", "profile?"),
			spec("", "us-east-1", three...),
			spec("s3/aws4_request", "us-east-1", three...),
			spec("{service}", "us-east-1", three...),
			spec("s3", "", three...),
			spec("s3", "EU-WEST-1", three...),
			spec("s3", strings.Repeat("a", 65), three...),
			{Type: "aws-sigv4", SigV4: &api.SigV4Spec{Fields: three, Service: "s3", Region: "auto"}, HeaderName: "X"},
		},
		badFor: []string{"sigv4", "sigv4.fields", "sigv4.fields", "sigv4.fields", "sigv4.fields", "sigv4.fields", "sigv4.service", "sigv4.service",
			"sigv4.service", "sigv4.region", "sigv4.region", "sigv4.region", "headerName"},
	}, {
		spec: spec("s3", "auto", awsKeyID, awsSecret, awsSession), params: params,
		fields: map[string]string{awsKeyID: testAWSID, awsSecret: testAWSSecret, awsSession: testAWSSession},
		target: "/a/b%2Bc?x=1", body: "text",
		wire: []string{"Authorization: AWS4-HMAC-SHA256 Credential=" + testAWSID + "/20231114/auto/s3/aws4_request, " +
			"SignedHeaders=content-length;host;x-amz-content-sha256;x-amz-date;x-amz-security-token, Signature=1bf4872c6d11f0de0b6ab91827d263229e3fdd18e71d9d3a8061a90f99cd3f7e",
			date, "X-Amz-Security-Token: " + testAWSSession, "X-Amz-Content-Sha256: 982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1"},
		open: []string{date, "X-Amz-Content-Sha256: 982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1"},
	}, {
		spec: spec("service", "us-east-1", "profile"), params: params,
		fields: map[string]string{"profile": `{"AccessKeyId":"` + testAWSID + `","SecretAccessKey":"` + testAWSSecret + `"}`},
		wire: []string{"Authorization: AWS4-HMAC-SHA256 Credential=" + testAWSID + "/20231114/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, " +
			"Signature=280a6164f59a66ec28a9bcf9f280c8d33359ce14eb03367990b32b473f431f4d", date},
		open: []string{date},
	}}
}

// awsCall is a request to a service, as its own clients send it.
type awsCall struct {
	name, host, method, target, body string
	headers                          []api.Header
	profile                          bool
	long                             bool // a body that is not read
}

func awsCalls() []awsCall {
	header := func(pairs ...string) (out []api.Header) {
		for i := 0; i < len(pairs); i += 2 {
			out = append(out, api.Header{Name: pairs[i], Value: pairs[i+1]})
		}
		return out
	}
	return []awsCall{
		{name: "s3 get", host: "s3.eu-west-1.amazonaws.com", method: "GET", target: "/bucket/a%20b/$c(1)!'*@:,=&é~.csv?versionId=x%2Fy&prefix=a+b%20c"},
		{name: "s3 list", host: "my-bucket.s3.eu-west-1.amazonaws.com", method: "GET", target: "/?list-type=2&prefix=%C3%A9/&delimiter=%2F&empty&z=&a=2&a=1&A=3"},
		{name: "s3 put", host: "s3.eu-west-1.amazonaws.com", method: "PUT", target: "/bucket/test$file.text", body: "Welcome to Amazon S3.",
			headers: header("Content-Type", "text/plain", "X-Amz-Storage-Class", "REDUCED_REDUNDANCY", "X-Amz-Meta-A", "a   b  c", "Content-Md5", "x", "If-None-Match", "*")},
		{name: "s3 head, whole key", host: "s3.us-gov-west-1.amazonaws.com", method: "HEAD", target: "/bucket/k", profile: true},
		{name: "s3 delete", host: "bucket.s3.amazonaws.com", method: "DELETE", target: "/k"},
		{name: "s3 long put", host: "s3.eu-west-1.amazonaws.com", method: "PUT", target: "/bucket/k", body: strings.Repeat("0123456789abcdef", (policy.MaxInspected>>4)+1), long: true},
		{name: "dynamodb", host: "dynamodb.us-east-1.amazonaws.com", method: "POST", target: "/", body: `{"TableName":"users","Key":{"id":{"S":"1"}}}`,
			headers: header("Content-Type", "application/x-amz-json-1.0", "X-Amz-Target", "DynamoDB_20120810.GetItem", "Accept", "*/*")},
		{name: "sqs", host: "sqs.eu-central-1.amazonaws.com", method: "POST", target: "/", body: `{"QueueUrl":"https://sqs.eu-central-1.amazonaws.com/1/q","MessageBody":"é"}`,
			headers: header("Content-Type", "application/x-amz-json-1.0", "X-Amz-Target", "AmazonSQS.SendMessage", "User-Agent", "me")},
		{name: "bedrock", host: "bedrock-runtime.us-west-2.amazonaws.com", method: "POST", target: "/model/anthropic.claude-sonnet-4-5-20250929-v1:0/converse",
			body: `{"messages":[]}`, headers: header("Content-Type", "application/json")},
		{name: "bedrock, escaped", host: "bedrock-runtime.us-west-2.amazonaws.com", method: "POST", target: "/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse",
			body: `{"messages":[]}`, headers: header("Content-Type", "application/json"), profile: true},
		{name: "execute-api", host: "a1b2c3.execute-api.ap-southeast-2.amazonaws.com", method: "POST", target: "/prod/@connections/JBDvjfGEIAMCERw%3D?b=1&a=2",
			body: "hello", headers: header("Content-Type", "text/plain", "X-Twice", "b", "X-Twice", "a")},
	}
}

// signedCall signs and sends a call as live ones are, and returns what came
// with the service that it came to.
func signedCall(t *testing.T, c awsCall) ([]byte, *standin.SigV4) {
	t.Helper()
	now := time.Now()
	spec := api.SigV4Spec{Fields: []string{awsKeyID, awsSecret, awsSession + "?"}, Service: byHost, Region: "{region}"}
	fields := map[string]secret.Value{
		awsKeyID: secret.FromString(testAWSID), awsSecret: secret.FromString(testAWSSecret), awsSession: secret.FromString(testAWSSession),
	}
	if c.profile {
		spec.Fields = []string{"profile"}
		fields = map[string]secret.Value{"profile": secret.FromString("[default]\naws_access_key_id=" + testAWSID + "\naws_secret_access_key = " + testAWSSecret +
			"\naws_session_token=" + testAWSSession + "\n")}
	}
	s, err := New(api.AuthSpec{Type: "aws-sigv4", SigV4: &spec})
	if err != nil {
		t.Fatal(err)
	}
	to := egress.Destination{Host: c.host}
	service, region, err := s.(*sigV4).scope(to)
	if err != nil {
		t.Fatal(err)
	}
	verify := &standin.SigV4{Service: service, Region: region, Now: func() time.Time { return now }}
	verify.Know(testAWSID, testAWSSecret, testAWSSession)
	r, err := policy.Canonicalise(c.method, c.target, c.headers, policy.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	in := Input{Fields: fields, Request: r, Body: []byte(c.body), Now: now}
	if c.long {
		return sendLong(t, to, verify, s, in), verify
	}
	return sendTo(t, to, verify, s, in), verify
}

// sendLong sends a body that the strategy has not seen.
func sendLong(t *testing.T, to egress.Destination, verify *standin.SigV4, s Strategy, in Input) []byte {
	t.Helper()
	if !LeavesLong(s, in.Request, to) {
		t.Fatal("a long body is not left unsigned")
	}
	return sendTo(t, to, verify, unread{s}, in)
}

// unread is a strategy that is told of a body's length alone.
type unread struct{ Strategy }

func (u unread) Additions(ctx context.Context, in Input) (egress.Additions, error) {
	in.Body, in.BodyLength = nil, int64(len(in.Body))
	return u.Strategy.Additions(ctx, in)
}

// TestSignedRequestsAreAccepted shows live requests to a verifier that was
// written from the description of the signature alone; and shows it each of
// them again with one byte changed, of which none is accepted.
func TestSignedRequestsAreAccepted(t *testing.T) {
	for _, c := range awsCalls() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			raw, verify := signedCall(t, c)
			if err := verify.Check(raw); err != nil {
				t.Fatal(err)
			}
			head, body, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
			if got := headerOf(raw, "X-Amz-Content-Sha256") == unsignedPayload; got != c.long {
				t.Errorf("unsigned: %v", got)
			}
			signed := ";" + strings.Split(strings.Split(headerOf(raw, "Authorization"), "SignedHeaders=")[1], ",")[0] + ";"
			at := 0
			for n, line := range bytes.Split(head, []byte("\r\n")) {
				name, _, _ := strings.Cut(string(line), ":")
				counts := n == 0 || strings.EqualFold(name, "Authorization") || strings.Contains(signed, ";"+strings.ToLower(name)+";")
				for i := range line {
					if c.long && i%16 != 3 {
						continue // each takes a copy of the body
					}
					if changed := changeByte(raw, at+i); changed != nil && counts && verify.Check(changed) == nil {
						t.Errorf("accepted with another byte at %d of %q", i, line)
					}
				}
				at += len(line) + 2
			}
			at += 2
			for i := range body {
				if i > 200 || c.long && i > 5 {
					break
				}
				if err := verify.Check(changeByte(raw, at+i)); (err == nil) != c.long {
					t.Errorf("with another byte at %d of the body: %v", i, err)
				}
			}
			for _, name := range []string{"user-agent", "accept-encoding"} {
				if strings.Contains(signed, ";"+name+";") {
					t.Errorf("%s is signed", name)
				}
			}
		})
	}
}

// changeByte is raw with another byte at i that means something else; nil when
// the two would be the same to any server.
func changeByte(raw []byte, i int) []byte {
	out := bytes.Clone(raw)
	switch c := raw[i]; {
	case c == ' ' || c == '\t':
		return nil // next to others, it is white space still
	case isLetter(c):
		// The other case: of a header's name, and of an escape's digits, that
		// is no change, so the next letter.
		if out[i]++; !isLetter(out[i]) {
			out[i] = c - 1
		}
	case isDigit(c):
		out[i] = '0' + (c-'0'+1)%10
	default:
		out[i] = 'q'
	}
	return out
}

// TestSigV4Refuses is what is not signed, rather than signed wrongly.
func TestSigV4Refuses(t *testing.T) {
	fields := map[string]secret.Value{awsKeyID: secret.FromString(testAWSID), awsSecret: secret.FromString(testAWSSecret)}
	for name, c := range map[string]struct {
		service, region, target string
		to                      egress.Destination
		length                  int64
		code                    api.Code
		text                    string
	}{
		"plus in a path of S3":    {"s3", "auto", "/b/a+b", egress.Destination{Host: "x.example.com"}, 0, api.InvalidRequest, "'+'"},
		"no service":              {byHost, "eu-west-1", "/", egress.Destination{Host: "x.example.com"}, 0, api.AuthFailed, "which AWS service"},
		"no region":               {"s3", byHost, "/", egress.Destination{Host: "x.example.com"}, 0, api.AuthFailed, "which AWS region"},
		"no region of AWS's own":  {byHost, byHost, "/", egress.Destination{Host: "b.s3-accelerate.amazonaws.com"}, 0, api.AuthFailed, "which AWS region"},
		"unread, not S3":          {"sqs", "eu-west-1", "/", egress.Destination{Host: "x.example.com"}, policy.MaxInspected + 1, api.Internal, "was not read"},
		"unread, short":           {"s3", "eu-west-1", "/", egress.Destination{Host: "x.example.com"}, 5, api.Internal, "was not read"},
		"unread, unknown length":  {"s3", "eu-west-1", "/", egress.Destination{Host: "x.example.com"}, -1, api.Internal, "was not read"},
		"unread, over plain http": {"s3", "eu-west-1", "/", egress.Destination{Host: "x.example.com", AllowHTTP: true}, policy.MaxInspected + 1, api.Internal, "was not read"},
	} {
		s, err := New(api.AuthSpec{Type: "aws-sigv4", SigV4: &api.SigV4Spec{Fields: []string{awsKeyID, awsSecret}, Service: c.service, Region: c.region}})
		if err != nil {
			t.Fatal(err)
		}
		r, err := policy.Canonicalise("PUT", c.target, nil, policy.Rules{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Additions(t.Context(), Input{Fields: fields, Request: r, Destination: c.to, BodyLength: c.length, Now: time.Unix(contractTime, 0)})
		if api.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
		if got, want := LeavesLong(s, r, c.to), c.service == "s3" && !c.to.AllowHTTP && c.region != byHost; got != want {
			t.Errorf("%s: leaves long bodies: %v", name, got)
		}
	}
}

// TestAWSEndpoints holds hosts against what they sign for: each prefix and
// signing name of AWS's own list, and shapes that no list has.
func TestAWSEndpoints(t *testing.T) {
	list, err := os.ReadFile("testdata/aws-endpoints.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(list)) {
		if line[0] == '#' {
			continue
		}
		n++
		prefix, want, _ := strings.Cut(strings.TrimSpace(line), " ")
		service, region, known := awsEndpoint(prefix + ".eu-west-1.amazonaws.com")
		if service != want || region != "eu-west-1" || !known {
			t.Errorf("%s signs as %q in %q, want %q", prefix, service, region, want)
		}
	}
	if n < 400 {
		t.Fatalf("the list has %d lines", n)
	}
	for host, want := range map[string]string{
		"s3.us-gov-west-1.amazonaws.com":                         "s3 us-gov-west-1",
		"S3.EU-West-1.AmazonAWS.com":                             "s3 eu-west-1",
		"my.bucket.s3.eu-west-1.amazonaws.com":                   "s3 eu-west-1",
		"us-west-2.s3.amazonaws.com":                             "s3 us-east-1",
		"s3.amazonaws.com":                                       "s3 us-east-1",
		"b.s3.dualstack.eu-west-1.amazonaws.com":                 "s3 eu-west-1",
		"b.s3-fips.dualstack.us-gov-east-1.amazonaws.com":        "s3 us-gov-east-1",
		"ap-123456789012.s3-accesspoint.eu-west-1.amazonaws.com": "s3 eu-west-1",
		"b.s3-accelerate.amazonaws.com":                          "s3 ",
		"o.op-1.s3-outposts.us-east-1.amazonaws.com":             "s3-outposts us-east-1",
		"f-1.s3-object-lambda.us-east-1.amazonaws.com":           "s3-object-lambda us-east-1",
		"dynamodb-fips.us-east-2.amazonaws.com":                  "dynamodb us-east-2",
		"sqs.cn-north-1.amazonaws.com.cn":                        "sqs cn-north-1",
		"eu-west-1.queue.amazonaws.com":                          "sqs eu-west-1",
		"a1b2c3.execute-api.eu-west-1.amazonaws.com":             "execute-api eu-west-1",
		"abc.lambda-url.eu-west-1.on.aws":                        "lambda eu-west-1",
		"ec2.eu-west-1.api.aws":                                  "ec2 eu-west-1",
		"search-x-abc.eu-west-1.es.amazonaws.com":                "es eu-west-1",
		"abc.eu-west-1.aoss.amazonaws.com":                       "aoss eu-west-1",
		"c.cluster-x.eu-west-1.neptune.amazonaws.com":            "neptune-db eu-west-1",
		"abc.appsync-api.eu-west-1.amazonaws.com":                "appsync eu-west-1",
		"aps-workspaces.eu-west-1.amazonaws.com":                 "aps eu-west-1",
		"a1-ats.iot.eu-west-1.amazonaws.com":                     "iotdata eu-west-1",
		"s3.eusc-de-east-1.amazonaws.eu":                         "s3 eusc-de-east-1",
		"s3.us-isob-east-1.amazonaws.com":                        "s3 us-isob-east-1",
		"iam.amazonaws.com":                                      "iam us-east-1",
		"sts.amazonaws.com":                                      "sts us-east-1",
		"sts.ap-east-1.amazonaws.com":                            "sts ap-east-1",
		"iam.amazonaws.com.cn":                                   " ",
		"foo.amazonaws.com":                                      " ",
		"a.b.amazonaws.com":                                      " ",
		"email.eu-central-1.amazonaws.com":                       "ses eu-central-1",
		"streams.dynamodb.eu-west-1.amazonaws.com":               "dynamodb eu-west-1",
		"monitoring.eu-west-1.amazonaws.com":                     "monitoring eu-west-1",
		"sqs.eu-west-one.amazonaws.com":                          " ",
		"sqs.eu-west-123.amazonaws.com":                          " ",
		"sqs.europe-west-1.amazonaws.com":                        " ",
		"dualstack.eu-west-1.amazonaws.com":                      "dualstack eu-west-1",
	} {
		service, region, known := awsEndpoint(host)
		if got := service + " " + region; got != want || !known {
			t.Errorf("%s signs for %q, want %q", host, got, want)
		}
	}
	for _, host := range []string{"amazonaws.com", "s3.eu-west-1.amazonaws.com.evil.test", "s3.eu-west-1.notamazonaws.com", "127.0.0.1", "localhost", "s3.eu-west-1.amazonaws.co"} {
		if service, region, known := awsEndpoint(host); known || service != "" || region != "" {
			t.Errorf("%s signs for %q in %q", host, service, region)
		}
	}
}

func TestWholeKeys(t *testing.T) {
	const key = "aws_access_key_id = " + testAWSID + "\naws_secret_access_key = " + testAWSSecret
	const session = "\naws_session_token = " + testAWSSession
	const object = `"AccessKeyId":"` + testAWSID + `","SecretAccessKey":"` + testAWSSecret + `"`
	now := time.Unix(contractTime, 0)
	for text, want := range map[string]string{
		"[default]\n" + key:           "",
		"[default]\n" + key + session: testAWSSession,
		"[work]\n" + key + "\n":       "",
		"# mine\n[profile work]\nregion=eu-west-1\n" + key + "\n; end\n":           "",
		"[default]\r\n" + strings.ReplaceAll(key, "\n", "\r\n"):                    "",
		"[other]\naws_access_key_id=B\naws_secret_access_key=C\n[default]\n" + key: "",
		"[default]\n" + key + "\n[other]\nrole_arn = x\n":                          "",
		"[default]\ns3 =\n  aws_access_key_id = nested\n" + key:                    "",
		key: "",
		"export AWS_ACCESS_KEY_ID=\"" + testAWSID + "\"\nexport AWS_SECRET_ACCESS_KEY='" + testAWSSecret + "'\nexport AWS_SESSION_TOKEN=" + testAWSSession: testAWSSession,
		"{" + object + "}": "",
		" {\"Version\":1," + object + `,"SessionToken":"` + testAWSSession + `","Expiration":"2023-11-14T22:13:21Z"} `: testAWSSession,
		`{"Credentials":{` + object + `,"SessionToken":"` + testAWSSession + `"},"AssumedRoleUser":{"Arn":"x"}}`:       testAWSSession,
		`{"AccessKey":{"UserName":"u",` + object + `,"Status":"Active"}}`:                                              "",
		`{"accessKeyId":"` + testAWSID + `","secretAccessKey":"` + testAWSSecret + `","sessionToken":null}`:            "",
		`{"access_key_id":"` + testAWSID + `","aws_secret_access_key":"` + testAWSSecret + `"}`:                        "",
	} {
		k, err := wholeKey(text, now)
		if err != nil || string(k.id.Expose()) != testAWSID || string(k.secret.Expose()) != testAWSSecret || string(k.session.Expose()) != want {
			t.Errorf("%q: %q %q, %v", text, k.id.Expose(), k.session.Expose(), err)
		}
	}
	for text, want := range map[string]string{
		"x":                               "neither a profile",
		"[default]\n":                     "neither a profile",
		"[default]\nregion = eu-west-1\n": "no access_key_id",
		"[default]\naws_access_key_id = " + testAWSID:                 "no secret_access_key",
		"[a]\n" + key + "\n[b]\n" + key:                               "several profiles",
		"[default]\n" + key + "\naws_secret_access_key = x":           "twice",
		"[default]\n" + key + "\n[default]\n" + key:                   "twice",
		"[default]\n" + key + "\nrole_arn = arn:aws:iam::1:role/x":    "--role-arn",
		"[default]\nsource_profile = x\n":                             "--role-arn",
		"[default]\nsso_session = x\n":                                "holds none",
		"[default]\ncredential_process = x\n":                         "holds none",
		"[default]\n" + key + "\nno setting":                          "neither a profile",
		"[default]\n" + strings.Replace(key, "wJalr", "wJ alr", 1):    "an AWS key does not have",
		"[default]\n" + strings.Replace(key, "AKID", "AK/ID", 1):      "an AWS key does not have",
		"[default]\n" + strings.Replace(key, "wJalr", "wJ\x01alr", 1): "control character",
		"[default]\n" + strings.Replace(key, "wJalr", "wJälr", 1):     "not ASCII",
		"{":                                    "not valid",
		"{" + object:                           "not valid",
		"{" + object + ",}":                    "not valid",
		"{" + object + `,"AccessKeyId":"x"}`:   "not valid",
		"{" + object + `,"access_key_id":"x"}`: "twice",
		`{"AccessKeyId":1,"SecretAccessKey":"x"}`:              "no text",
		`{"Credentials":[` + object + `]}`:                     "not valid",
		`{"Credentials":{"Version":1}}`:                        "no access_key_id",
		"{" + object + `,"Expiration":"soon"}`:                 "no time",
		"{" + object + `,"Expiration":"2023-11-14T22:13:20Z"}`: "ended at 2023-11-14T22:13:20Z",
	} {
		k, err := wholeKey(text, now)
		if api.CodeOf(err) != api.AuthFailed || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `"profile"`) {
			t.Errorf("%q: %v; want %q", text, err, want)
		} else if strings.Contains(err.Error()+api.AsError(err).Hint, "0123456789") || !k.secret.IsZero() {
			t.Errorf("%q: the error repeats the key: %v", text, err)
		}
	}
}

func wholeKey(text string, now time.Time) (awsKey, error) {
	s := &sigV4{profile: "profile"}
	return s.key(Input{Fields: map[string]secret.Value{"profile": secret.FromString(text)}, Now: now})
}

// TestWholeKeyIsScrubbed names the parts of a key that an upstream knows.
func TestWholeKeyIsScrubbed(t *testing.T) {
	s := &sigV4{profile: "profile"}
	fields := map[string]secret.Value{"profile": secret.FromString("[default]\naws_access_key_id=" + testAWSID + "\naws_secret_access_key=" + testAWSSecret + "\naws_session_token=" + testAWSSession)}
	var got []string
	for _, v := range Parts(s, fields) {
		got = append(got, string(v.Expose()))
	}
	if strings.Join(got, " ") != testAWSSecret+" "+testAWSSession {
		t.Errorf("%q", got)
	}
	if Parts(s, nil) != nil || Parts(s, map[string]secret.Value{"profile": secret.FromString("x")}) != nil || Parts(&sigV4{}, fields) != nil {
		t.Error("parts of nothing")
	}
}

// TestRoleKeyStandsForWholeKey is a token that was had for a role, which comes
// by its three names.
func TestRoleKeyStandsForWholeKey(t *testing.T) {
	s := &sigV4{profile: "profile"}
	k, err := s.key(Input{Fields: map[string]secret.Value{
		"profile": secret.FromString("x"), awsKeyID: secret.FromString("ASIA1"), awsSecret: secret.FromString("s"), awsSession: secret.FromString("t"),
	}})
	if err != nil || string(k.id.Expose()) != "ASIA1" || string(k.session.Expose()) != "t" {
		t.Errorf("%q, %v", k.id.Expose(), err)
	}
}

func TestSigV4Fields(t *testing.T) {
	spec := func(fields ...string) api.AuthSpec {
		return api.AuthSpec{Type: "aws-sigv4", SigV4: &api.SigV4Spec{Fields: fields, Service: "s3", Region: "auto"}}
	}
	for want, s := range map[string]api.AuthSpec{
		"access_key_id secret_access_key | session_token":  spec(awsKeyID, awsSecret, awsSession+"?"),
		"access_key_id secret_access_key session_token | ": spec(awsSession, awsKeyID, awsSecret),
		"access_key_id secret_access_key | ":               spec(awsSecret, awsKeyID),
		"keys | ":                                          spec("keys"),
		" | ":                                              spec("keys", "others"),
		"pem access_key_id secret_access_key | session_token": {Type: "mtls", MTLS: &api.MTLSSpec{CertField: "pem", KeyField: "pem", Plus: new(spec(awsKeyID, awsSecret, awsSession+"?"))}},
	} {
		if got := strings.Join(Fields(s), " ") + " | " + strings.Join(OptionalFields(s), " "); got != want {
			t.Errorf("%+v: %q, want %q", s, got, want)
		}
	}
}

func FuzzWholeKey(f *testing.F) {
	f.Add("[default]\naws_access_key_id=A\naws_secret_access_key=B\n")
	f.Add(`{"Credentials":{"AccessKeyId":"A","SecretAccessKey":"B"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		k, err := readAWSKey("profile", secret.FromString(text))
		if (err == nil) != (!k.id.IsZero() && !k.secret.IsZero()) {
			t.Fatalf("%v, and a key: %v", err, !k.secret.IsZero())
		}
		if err == nil && checkAWSPart("profile", awsSecret, k.secret.Expose()) != nil {
			t.Fatal("a secret that cannot sign")
		}
	})
}

func BenchmarkSigV4(b *testing.B) {
	s, err := New(api.AuthSpec{Type: "aws-sigv4", SigV4: &api.SigV4Spec{Fields: []string{awsKeyID, awsSecret, awsSession + "?"}, Service: byHost, Region: byHost}})
	if err != nil {
		b.Fatal(err)
	}
	r, err := policy.Canonicalise("POST", "/", []api.Header{{Name: "Content-Type", Value: "application/x-amz-json-1.0"}, {Name: "X-Amz-Target", Value: "DynamoDB_20120810.GetItem"}}, policy.Rules{})
	if err != nil {
		b.Fatal(err)
	}
	in := Input{
		Fields:  map[string]secret.Value{awsKeyID: secret.FromString(testAWSID), awsSecret: secret.FromString(testAWSSecret)},
		Request: r, Destination: egress.Destination{Host: "dynamodb.us-east-1.amazonaws.com"}, Body: []byte(`{"TableName":"users"}`), Now: time.Unix(contractTime, 0),
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Additions(b.Context(), in); err != nil {
			b.Fatal(err)
		}
	}
}

package auth

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/standin"
)

// awsVector is one of the suite's.
type awsVector struct {
	method, target, body string
	headers              []api.Header // of the request, but for Host and Content-Length
	host                 string
	id, secret, session  string
	service, region      string
	at                   time.Time
	authorization        string // of the signed request
}

// awsVectors reads the suite.
func awsVectors(t *testing.T) map[string]*awsVector {
	t.Helper()
	archive, err := txtar.ParseFile("testdata/aws-signing-test-suite/v4.txtar")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*awsVector{}
	for _, f := range archive.Files {
		name, kind, _ := strings.Cut(f.Name, "/")
		if all[name] == nil {
			all[name] = &awsVector{
				id: "AKIDEXAMPLE", secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", service: byHost, region: byHost,
			}
		}
		v := all[name]
		switch kind {
		case "context.json":
			var c struct {
				Credentials struct {
					ID     string `json:"access_key_id"`
					Secret string `json:"secret_access_key"`
					Token  string `json:"token"`
				} `json:"credentials"`
				Region    string    `json:"region"`
				Service   string    `json:"service"`
				Timestamp time.Time `json:"timestamp"`
			}
			if err := unmarshal(f.Data, &c); err != nil {
				t.Fatalf("%s: %v", f.Name, err)
			}
			v.id, v.secret, v.session = c.Credentials.ID, c.Credentials.Secret, c.Credentials.Token
			v.service, v.region, v.at = c.Service, c.Region, c.Timestamp
		case "request.txt":
			v.parse(strings.TrimSuffix(string(f.Data), "\n"))
		case "header-signed-request.txt":
			for line := range strings.Lines(string(f.Data)) {
				if value, ok := strings.CutPrefix(line, "Authorization:"); ok {
					v.authorization = strings.TrimSpace(value)
				}
			}
		}
	}
	if len(all) != 40 {
		t.Fatalf("the suite has %d vectors", len(all))
	}
	return all
}

// parse reads a request of the suite. A line that begins with a blank goes on
// with the one before it, as it stands.
func (v *awsVector) parse(text string) {
	head, body, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(strings.TrimSuffix(head, "\n"), "\n")
	v.method, v.target, _ = strings.Cut(strings.TrimSuffix(lines[0], " HTTP/1.1"), " ")
	v.body = strings.TrimSuffix(body, "\n")
	for _, line := range lines[1:] {
		if line[0] == ' ' {
			v.headers[len(v.headers)-1].Value += "\n" + line
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "host":
			v.host = value
		case "x-amz-date":
			v.at, _ = time.Parse("20060102T150405Z", value)
		case "content-length": // egress's own
		default:
			v.headers = append(v.headers, api.Header{Name: name, Value: value})
		}
	}
}

// unmarshal is for the files of the suite alone, which have more than is used.
func unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// awsSuiteExceptions are the vectors that do not come out as the suite says,
// and why.
var awsSuiteExceptions = map[string]string{
	"get-header-value-multiline":           "refused: a folded header",
	"get-relative-normalized":              "refused: a dot segment",
	"get-relative-unnormalized":            "refused: a dot segment",
	"get-relative-relative-normalized":     "refused: a dot segment",
	"get-relative-relative-unnormalized":   "refused: a dot segment",
	"get-slash-normalized":                 "refused: an empty segment",
	"get-slash-unnormalized":               "refused: an empty segment",
	"get-slash-dot-slash-normalized":       "refused: a dot segment",
	"get-slash-dot-slash-unnormalized":     "refused: a dot segment",
	"get-slash-pointless-dot-normalized":   "refused: a dot segment",
	"get-slash-pointless-dot-unnormalized": "refused: a dot segment",
	"get-slashes-normalized":               "refused: an empty segment",
	"get-slashes-unnormalized":             "refused: an empty segment",
	"get-space-unnormalized":               "refused: a space in the path",
	// The suite encodes a path once, as S3 has it, for a service that is not
	// S3. Such a service encodes the path that it is sent, which has %20 or
	// %E1 in it by then; double-encode-path and double-url-encode say so.
	"get-space-normalized":  "differs: a path that is encoded once, of a service that is not S3",
	"get-utf8":              "differs: a path that is encoded once, of a service that is not S3",
	"post-sts-header-after": "differs: the session token is signed, and the suite would add it behind the signature",
	// Its signed request is of another time, key and scope than its canonical
	// one: what can be held against it is the path, in TestAWSPaths.
	"double-encode-path": "differs: the suite's signature is of another request",
}

// TestAWSSuite passes AWS's suite through the whole way of a request: the
// canonicaliser, the strategy, egress, and a server that reads bytes.
func TestAWSSuite(t *testing.T) {
	for name, v := range awsVectors(t) {
		t.Run(name, func(t *testing.T) {
			exception := awsSuiteExceptions[name]
			r, err := policy.Canonicalise(v.method, v.target, v.headers, policy.Rules{})
			if (err != nil) != strings.HasPrefix(exception, "refused: ") {
				t.Fatalf("%q, and the canonicaliser says %v", exception, err)
			}
			if err != nil {
				return
			}
			raw, accepted := sendSigned(t, v, r)
			if accepted != nil {
				t.Errorf("the verifier: %v", accepted)
			}
			got := headerOf(raw, "Authorization")
			if (got == v.authorization) == (exception != "") {
				t.Errorf("%q, and it is sent with\n%s\nthe suite has\n%s\n%q", exception, got, v.authorization, raw)
			}
		})
	}
	for name := range awsSuiteExceptions {
		if awsVectors(t)[name] == nil {
			t.Errorf("an exception for %s, which the suite does not have", name)
		}
	}
}

// TestS3Examples are those of S3's own documentation that carry no body and
// ask for no part of an object.
func TestS3Examples(t *testing.T) {
	for target, want := range map[string]string{
		"/?lifecycle":           "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
		"/?max-keys=2&prefix=J": "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
	} {
		v := &awsVector{
			host: "examplebucket.s3.amazonaws.com", id: "AKIAIOSFODNN7EXAMPLE", secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
			service: byHost, region: byHost, at: time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC),
		}
		r, err := policy.Canonicalise("GET", target, nil, policy.Rules{})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := sendSigned(t, v, r)
		if auth := headerOf(raw, "Authorization"); err != nil || !strings.HasSuffix(auth, "Signature="+want) {
			t.Errorf("%s: %v, %s; want %s", target, err, auth, want)
		}
	}
}

// sendSigned sends a vector's request and returns what the server read, and
// what it thinks of it.
func sendSigned(t *testing.T, v *awsVector, r *policy.Request) ([]byte, error) {
	t.Helper()
	fields := []string{awsKeyID, awsSecret, awsSession + "?"}
	s, err := New(api.AuthSpec{Type: "aws-sigv4", SigV4: &api.SigV4Spec{Fields: fields, Service: v.service, Region: v.region}})
	if err != nil {
		t.Fatal(err)
	}
	to := egress.Destination{Host: v.host}
	service, region, err := s.(*sigV4).scope(to)
	if err != nil {
		t.Fatal(err)
	}
	verify := &standin.SigV4{Service: service, Region: region, Now: func() time.Time { return v.at }}
	verify.Know(v.id, v.secret, v.session)
	in := Input{Fields: map[string]secret.Value{awsKeyID: secret.FromString(v.id), awsSecret: secret.FromString(v.secret)},
		Request: r, Body: []byte(v.body), Now: v.at}
	if v.session != "" {
		in.Fields[awsSession] = secret.FromString(v.session)
	}
	raw := sendTo(t, to, verify, s, in)
	return raw, verify.Check(raw)
}

// sendTo signs and sends a request to a stand-in of AWS under the name of the
// real service, and returns the bytes that came there.
func sendTo(t *testing.T, to egress.Destination, verify *standin.SigV4, s Strategy, in Input) []byte {
	t.Helper()
	up, err := standin.StartAWS(verify, nil, to.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	client := egress.New(egress.Config{Dial: map[string]netip.AddrPort{to.Host: up.Addr()}})
	defer client.CloseIdle()
	to.Roots = up.CAPEM()
	in.Destination = to
	add, err := s.Additions(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	body := egress.Body{}
	if len(in.Body) > 0 {
		body = egress.Body{Reader: strings.NewReader(string(in.Body)), Length: int64(len(in.Body)), Whole: in.Body}
	}
	resp, err := client.Send(t.Context(), to, in.Request, add, body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	seen := up.Seen()
	if len(seen) != 1 {
		t.Fatalf("%d requests", len(seen))
	}
	if want := map[bool]int{true: 200, false: 403}[verify.Check(seen[0]) == nil]; resp.Status != want {
		t.Errorf("status %d", resp.Status)
	}
	return seen[0]
}

func headerOf(raw []byte, name string) string {
	head, _, _ := strings.Cut(string(raw), "\r\n\r\n")
	for line := range strings.SplitSeq(head, "\r\n") {
		if n, value, ok := strings.Cut(line, ": "); ok && strings.EqualFold(n, name) {
			return value
		}
	}
	return ""
}

// TestAWSPaths holds the paths that the suite says a service encodes against
// those that are sent.
func TestAWSPaths(t *testing.T) {
	for path, want := range map[string]string{
		"/test/@connections/JBDvjfGEIAMCERw%3D": "/test/%40connections/JBDvjfGEIAMCERw%253D",
		"/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-west-2%3A892717189312%3Afunction%3Amy-rusty-fun/invocations": "/2015-03-31/functions/" +
			"arn%253Aaws%253Alambda%253Aus-west-2%253A892717189312%253Afunction%253Amy-rusty-fun/invocations",
	} {
		v := &awsVector{host: "lambda.us-east-2.amazonaws.com", id: "AKIDEXAMPLE", secret: "other", service: byHost, region: byHost, at: time.Unix(contractTime, 0)}
		r, err := policy.Canonicalise("POST", path, nil, policy.Rules{})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := sendSigned(t, v, r)
		if err != nil {
			t.Error(err)
		}
		// The verifier names its canonical request when a signature is wrong.
		verify := &standin.SigV4{Service: "lambda", Region: "us-east-2", Now: func() time.Time { return v.at }}
		verify.Know(v.id, "wrong", "")
		if err := verify.Check(raw); err == nil || !strings.Contains(err.Error(), fmt.Sprintf(`POST\n%s\n`, want)) {
			t.Errorf("%s is signed as %v; want %s", path, err, want)
		}
	}
}

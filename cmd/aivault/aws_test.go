package main_test

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"moldable.sh/aivault/internal/standin"
)

// awsRegion is where the stand-ins for AWS are.
const awsRegion = "eu-west-1"

// A cloud is AWS in one region: STS, and services that check signatures. STS
// gives a key for a role to who has the external id "ext-4f2a".
type cloud struct {
	services map[string]*standin.AWS // by host
	verify   map[string]*standin.SigV4
	mu       sync.Mutex
	roles    int
}

// startCloud starts the services, and one more with S3's rules, which is not
// AWS's own, for any host of this machine.
func startCloud(id, secret string) (*cloud, error) {
	c := &cloud{services: map[string]*standin.AWS{}, verify: map[string]*standin.SigV4{}}
	for name, service := range map[string]*standin.SigV4{
		"sts": {Service: "sts", Region: awsRegion}, "s3": {Service: "s3", Region: awsRegion}, "dynamodb": {Service: "dynamodb", Region: awsRegion},
		"": {Service: "s3", Region: "auto"},
	} {
		host := name + "." + awsRegion + ".amazonaws.com"
		if name == "" {
			host = "localhost"
		}
		answer := echoHead
		if name == "sts" {
			answer = c.assume
		}
		service.Know(id, secret, "")
		started, err := standin.StartAWS(service, answer, host)
		if err != nil {
			c.close()
			return nil, err
		}
		c.services[host], c.verify[host] = started, service
	}
	return c, nil
}

func (c *cloud) close() {
	for _, s := range c.services {
		s.Close()
	}
}

// echoHead repeats all of a request but its body.
func echoHead(raw []byte) (int, string) {
	head, _, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
	return http.StatusOK, strings.ReplaceAll(string(head), "\r", "") + "\n"
}

func (c *cloud) assume(raw []byte) (int, string) {
	if !bytes.Contains(raw, []byte("ExternalId=ext-4f2a")) {
		return http.StatusForbidden, "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.roles++
	id, secret, session := fmt.Sprintf("ASIAROLE%d", c.roles), fmt.Sprintf("role-secret-value-%d", c.roles), fmt.Sprintf("role-session-value-%d", c.roles)
	for _, v := range c.verify {
		v.Know(id, secret, session)
	}
	return http.StatusOK, assumedRole(id, secret, session, time.Now().Add(time.Hour))
}

// assumedRole is an answer of STS.
func assumedRole(id, secret, session string, ends time.Time) string {
	return "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>" + id + "</AccessKeyId><SecretAccessKey>" + secret +
		"</SecretAccessKey><SessionToken>" + session + "</SessionToken><Expiration>" + ends.UTC().Format(time.RFC3339) +
		"</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
}

// resolve is what makes a development build find the services, and the CAs
// that they are signed by.
func (c *cloud) resolve() (pairs []string, ca []byte) {
	for host, s := range c.services {
		if host != "localhost" {
			pairs = append(pairs, host+"="+s.Addr().String())
		}
		ca = append(ca, s.CAPEM()...)
	}
	return pairs, ca
}

// cmdCloud starts a cloud that knows one key, by the files that hold its id and
// its secret.
func cmdCloud(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: cloud IDFILE SECRETFILE")
	}
	c, err := startCloud(strings.TrimSpace(ts.ReadFile(args[0])), strings.TrimSpace(ts.ReadFile(args[1])))
	ts.Check(err)
	ts.Defer(c.close)
	pairs, ca := c.resolve()
	file := ts.MkAbs("cloud-ca.pem")
	ts.Check(os.WriteFile(file, ca, 0o600))
	own := c.services["localhost"]
	ts.Check(os.WriteFile(ts.MkAbs("bucket-ca.pem"), own.CAPEM(), 0o600))
	ts.Setenv("BUCKET_PORT", strconv.Itoa(int(own.Addr().Port())))
	ts.Setenv("AIVAULT_DEV_RESOLVE", strings.Join(pairs, ","))
	ts.Setenv("AIVAULT_DEV_CA_CERT_PATH", file)
}

func TestCloudHasCAs(t *testing.T) {
	c, err := startCloud("id", "secret")
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	pairs, ca := c.resolve()
	n := 0
	for block, rest := pem.Decode(ca); block != nil; block, rest = pem.Decode(rest) {
		n++
	}
	if len(pairs) != 3 || n != 4 {
		t.Errorf("%d hosts, %d CAs", len(pairs), n)
	}
}

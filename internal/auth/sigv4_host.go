package auth

import "strings"

// awsEndpoint says which service and region an endpoint of AWS is of, by its
// name: SERVICE.REGION.amazonaws.com and what follows that rule with labels
// before the service (a bucket, the id of an API). known is false for hosts
// that are none of AWS's; a host may tell one and not the other.
func awsEndpoint(host string) (service, region string, known bool) {
	labels, domain := awsLabels(strings.ToLower(host))
	if domain == "" {
		return "", "", false
	}
	last := len(labels) - 1
	switch {
	case labels[last] == "s3": // s3.amazonaws.com, BUCKET.s3.amazonaws.com
		return "s3", "us-east-1", true
	case labels[last] == "s3-accelerate":
		return "s3", "", true
	case last == 0 && domain != ".amazonaws.com":
		return "", "", true
	case last == 0:
		return globalEndpoint(labels[0])
	case isRegion(labels[last]):
		labels, region = labels[:last], labels[last]
		if last = len(labels) - 1; labels[last] == "dualstack" && last > 0 {
			labels = labels[:last]
		}
		return signingName(labels), region, true
	case isRegion(labels[last-1]): // a domain of its own: NAME.REGION.es
		return signingName(labels[last:]), labels[last-1], true
	}
	return "", "", true
}

// awsLabels are the labels of a host before AWS's own domain; it is "" for a
// host that has none.
func awsLabels(host string) (labels []string, domain string) {
	for _, domain := range [...]string{".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws", ".on.aws"} {
		if rest, ok := strings.CutSuffix(host, domain); ok && rest != "" {
			return strings.Split(rest, "."), domain
		}
	}
	return nil, ""
}

// isRegion says whether a label has the form of a region: eu-west-1,
// us-gov-east-1, us-isob-east-1.
func isRegion(s string) bool {
	parts := strings.Split(s, "-")
	if len(parts) < 3 {
		return false
	}
	for i, p := range parts {
		for j := range len(p) {
			if isDigit(p[j]) != (i == len(parts)-1) || !isDigit(p[j]) && !isLetter(p[j]) {
				return false
			}
		}
		if p == "" || i == 0 && len(p) > 4 || i == len(parts)-1 && len(p) > 2 {
			return false
		}
	}
	return true
}

// globalEndpoint are the services that have one endpoint for all regions.
func globalEndpoint(label string) (service, region string, known bool) {
	switch label {
	case "iam", "sts", "route53", "cloudfront", "organizations", "savingsplans", "importexport":
		return label, "us-east-1", true
	}
	return "", "", true
}

// signingName is what a service signs as, by the labels of its endpoint. What
// is not named here signs as its last label.
func signingName(labels []string) string {
	last := strings.TrimSuffix(labels[len(labels)-1], "-fips")
	before := ""
	if len(labels) > 1 {
		before = labels[len(labels)-2]
	}
	switch last {
	case "email", "mail-manager":
		return "ses"
	case "bedrock-runtime", "bedrock-agent", "bedrock-agent-runtime", "bedrock-data-automation", "bedrock-data-automation-runtime":
		return "bedrock"
	case "bedrock-agentcore-control":
		return "bedrock-agentcore"
	case "s3-control", "s3-accesspoint":
		return "s3"
	case "queue":
		return "sqs"
	case "lambda-url":
		return "lambda"
	case "neptune":
		return "neptune-db"
	case "appsync-api":
		return "appsync"
	case "aps-workspaces":
		return "aps"
	case "iot":
		return iotName(before)
	case "connect":
		if before == "participant" {
			return "execute-api"
		}
	case "sso":
		if before == "portal" {
			return "awsssoportal"
		}
	case "pinpoint":
		if before == "sms-voice" {
			return "sms-voice"
		}
		return "mobiletargeting"
	}
	if name, ok := strings.CutSuffix(last, "-chime"); ok && name != "" {
		return "chime"
	}
	if last == "marketplace" || strings.HasSuffix(last, "-marketplace") {
		return "aws-marketplace"
	}
	for _, other := range [...][2]string{
		{"account-access-runtime", "account-access"},
		{"agent-registry-control", "agent-registry"},
		{"appconfigdata", "appconfig"},
		{"appstream2", "appstream"},
		{"cassandra-streams", "cassandra"},
		{"cloudhsmv2", "cloudhsm"},
		{"cloudsearchdomain", "cloudsearch"},
		{"cloudwatch-omni", "cloudwatch"},
		{"contact-lens", "connect"},
		{"data-signer", "signer"},
		{"eventsv2", "events"},
		{"forecastquery", "forecast"},
		{"iam-toolbox", "iam"},
		{"ivsrealtime", "ivs"},
		{"memory-db", "memorydb"},
		{"migrationhub-config", "mgh"},
		{"models-v2-lex", "lex"},
		{"oidc", "sso-oauth"},
		{"partnercentral-prm", "partnercentral"},
		{"personalize-events", "personalize"},
		{"personalize-runtime", "personalize"},
		{"runtime-v2-lex", "lex"},
		{"servicecatalog-appregistry", "servicecatalog"},
		{"transcribestreaming", "transcribe"},
	} {
		if last == other[0] {
			return other[1]
		}
	}
	return last
}

// iotName is what the several services of IoT sign as.
func iotName(before string) string {
	switch {
	case before == "":
		return "iot"
	case before == "tunneling":
		return "IoTSecuredTunneling"
	case before == "jobs":
		return "iot-jobs-data"
	}
	return "iotdata" // ACCOUNT-ats.iot
}

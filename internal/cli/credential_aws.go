package cli

import (
	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
)

// awsFlags are the flags of --auth aws-sigv4.
type awsFlags struct{ service, region string }

func (a *awsFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.service, "aws-service", "", "aws-sigv4: what requests are signed for, by the service's `NAME`, such as s3 (default: as the host says)")
	f.StringVar(&a.region, "aws-region", "", "aws-sigv4: the `REGION` that requests are signed for (default: as the host says)")
	completeWords(cmd, "aws-service", "s3", "dynamodb", "sqs", "sns", "bedrock", "execute-api", "lambda", "ses", "es", "aoss")
}

// spec names the fields of the key: the one secret of a credential that has no
// more holds it whole.
func (a *awsFlags) spec(given api.AuthSpec, secrets map[string]string) api.AuthSpec {
	v := &api.SigV4Spec{Service: a.service, Region: a.region}
	if v.Service == "" {
		v.Service = "{by-host}"
	}
	if v.Region == "" {
		v.Region = "{by-host}"
	}
	v.Fields = []string{"access_key_id", "secret_access_key", "session_token?"}
	if len(secrets) == 1 {
		for field := range secrets {
			switch field {
			case "access_key_id", "secret_access_key", "session_token": // the others are missing, and will be named
			case "":
				v.Fields = []string{"secret"}
			default:
				v.Fields = []string{field}
			}
		}
	}
	given.SigV4 = v
	return given
}

// roleFlags are the flags of the role that a credential's AWS key assumes.
type roleFlags struct{ arn, externalID, session string }

func (r *roleFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.arn, "role-arn", "", "AWS: make calls as the role of this `ARN`, which the key assumes")
	f.StringVar(&r.externalID, "external-id", "", "AWS: the `ID` that the role's owner asks for")
	f.StringVar(&r.session, "session-name", "", "AWS: the `NAME` of the role's sessions, which CloudTrail shows (default aivault)")
}

// into adds what the flags say to the options of a credential's tokens.
func (r *roleFlags) into(options **api.TokenOptions) error {
	switch {
	case r.arn == "" && r.externalID != "":
		return api.Errorf(api.InvalidRequest, "--external-id needs --role-arn")
	case r.arn == "" && r.session != "":
		return api.Errorf(api.InvalidRequest, "--session-name needs --role-arn")
	case r.arn == "":
		return nil
	}
	if *options == nil {
		*options = &api.TokenOptions{}
	}
	(*options).RoleARN, (*options).ExternalID, (*options).SessionName = r.arn, r.externalID, r.session
	return nil
}

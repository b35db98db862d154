package lint

import (
	"strings"

	"moldable.sh/aivault/internal/standin"
)

// verifyAWS: the signature that the stand-in for AWS checks, for the service
// and the region that the host names.
func verifyAWS(s *standin.Seen, values map[string]string) error {
	labels := strings.Split(s.Host, ".")
	v := &standin.SigV4{Service: labels[0], Region: labels[1]}
	v.Know(values["AWS_ACCESS_KEY_ID"], values["AWS_SECRET_ACCESS_KEY"], values["AWS_SESSION_TOKEN"])
	return v.Check(s.Raw())
}

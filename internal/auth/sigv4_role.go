package auth

import (
	"context"
	"maps"
	"slices"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/secret"
)

// SignAWS signs a request of aivault's own, such as one to STS, with an AWS
// key that is held in the fields of a credential: by its three names, or whole
// in a field of another name. Service and region are what the host says.
func SignAWS(ctx context.Context, fields map[string]secret.Value, r *policy.Request, to egress.Destination, body []byte, now time.Time) (egress.Additions, error) {
	s := &sigV4{session: sessionMay}
	if fields[awsSecret].IsZero() {
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			s.profile = name
		}
	}
	return s.Additions(ctx, Input{Fields: fields, Request: r, Destination: to, Body: body, Now: now})
}

// WithRegion is spec with the region that the first of the hosts names which
// names one, where spec leaves it to the host; ok is false when none does.
func WithRegion(spec api.AuthSpec, hosts []string) (filled api.AuthSpec, ok bool) {
	v := spec.SigV4
	if v == nil || v.Region != byHost && v.Region != "{region}" {
		return spec, true
	}
	for _, h := range hosts {
		name, _, err := policy.ParseHost(h)
		if err != nil {
			continue
		}
		if _, region, _ := awsEndpoint(name); region != "" {
			own := *v
			own.Region, spec.SigV4 = region, &own
			return spec, true
		}
	}
	return spec, false
}

package cli

import (
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
)

// liftWord in place of a limit lifts it.
const liftWord = "none"

// policyFlags are the flags of `capability policy set`.
type policyFlags struct {
	rate, maxRequest, maxResponse     string
	perCaller                         bool
	block, allowQuery, denyQuery, req []string
}

func newPolicyFlags(cmd *cobra.Command) *policyFlags {
	p := &policyFlags{}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&p.rate, "rate-limit-per-minute", "", "in any 60 seconds let `N` calls start, or none to lift the limit")
	f.BoolVar(&p.perCaller, "per-caller", false, "count the rate limit for each caller")
	f.StringVar(&p.maxRequest, "max-request-body-bytes", "", "refuse request bodies of more than `N` bytes, or none")
	f.StringVar(&p.maxResponse, "max-response-body-bytes", "", "break answers off after `N` bytes, or none")
	f.StringArrayVar(&p.block, "response-block", nil, "remove the JSON `FIELD` from answers at any depth, or none; may be repeated")
	f.StringArrayVar(&p.allowQuery, "allow-query", nil, "let a call have the query parameter `NAME` and those given beside it alone, or none; may be repeated")
	f.StringArrayVar(&p.denyQuery, "deny-query", nil, "refuse the query parameter `NAME`, or none; may be repeated")
	f.StringArrayVar(&p.req, "require-json-field", nil, "want the body's value at a pointer to be one of these, `/POINTER=V1|V2`, or none; may be repeated")
	return p
}

// change is what the flags say; saying nothing is an error.
func (p *policyFlags) change(cmd *cobra.Command, id string) (api.PolicyChange, error) {
	c := api.PolicyChange{Capability: id}
	rate, rateName := &c.RatePerMinute, "rateLimitPerMinute"
	if p.perCaller {
		rate, rateName = &c.RatePerCallerPerMinute, "rateLimitPerMinutePerCaller"
	}
	if cmd.Flags().Changed("per-caller") && !cmd.Flags().Changed("rate-limit-per-minute") {
		return c, api.Errorf(api.InvalidRequest, "--per-caller belongs to --rate-limit-per-minute")
	}
	given := false
	for _, l := range []struct {
		flag, member string
		read         func(flag string) (lift bool, err error)
	}{
		{"rate-limit-per-minute", rateName, func(flag string) (bool, error) { return limitOf(flag, p.rate, rate, 0) }},
		{"max-request-body-bytes", "maxRequestBodyBytes", func(flag string) (bool, error) { return limitOf(flag, p.maxRequest, &c.MaxRequestBodyBytes, 64) }},
		{"max-response-body-bytes", "maxResponseBodyBytes", func(flag string) (bool, error) { return limitOf(flag, p.maxResponse, &c.MaxResponseBodyBytes, 64) }},
		{"response-block", "responseBlock", func(flag string) (bool, error) { return listOf(flag, p.block, &c.ResponseBlock) }},
		{"allow-query", "allowQuery", func(flag string) (bool, error) { return listOf(flag, p.allowQuery, &c.AllowQuery) }},
		{"deny-query", "denyQuery", func(flag string) (bool, error) { return listOf(flag, p.denyQuery, &c.DenyQuery) }},
		{"require-json-field", "requireJson", func(flag string) (bool, error) { return requirements(flag, p.req, &c.RequireJSON) }},
	} {
		if !cmd.Flags().Changed(l.flag) {
			continue
		}
		given = true
		lift, err := l.read(l.flag)
		if err != nil {
			return c, err
		}
		if lift {
			c.Lift = append(c.Lift, l.member)
		}
	}
	if !given {
		return c, api.Errorf(api.InvalidRequest, "nothing to change: give a limit")
	}
	return c, nil
}

// limitOf reads a number of 1 or more, or none.
func limitOf[T int | int64](flag, text string, to **T, bits int) (lift bool, err error) {
	if text == liftWord {
		return true, nil
	}
	n, err := strconv.ParseInt(text, 10, bits)
	if err != nil || n < 1 {
		return false, api.Errorf(api.InvalidRequest, "--%s cannot be %+.40q: it takes a number from 1 up, or none to lift the limit", flag, text)
	}
	v := T(n)
	*to = &v
	return false, nil
}

// listOf reads the values of a flag that may be repeated, or none alone.
func listOf(flag string, values []string, to *[]string) (lift bool, err error) {
	switch {
	case slices.Contains(values, ""):
		return false, api.Errorf(api.InvalidRequest, "--%s is empty", flag)
	case !slices.Contains(values, liftWord):
		*to = values
		return false, nil
	case len(values) > 1:
		return false, api.Errorf(api.InvalidRequest, "--%s none lifts the limit and stands alone", flag)
	}
	return true, nil
}

// requirements reads /POINTER=V1|V2.
func requirements(flag string, values []string, to *[]api.RequireJSON) (lift bool, err error) {
	var list []string
	if lift, err = listOf(flag, values, &list); lift || err != nil {
		return lift, err
	}
	for _, text := range list {
		pointer, wanted, ok := strings.Cut(text, "=")
		if !ok || !strings.HasPrefix(pointer, "/") || wanted == "" {
			return false, api.Errorf(api.InvalidRequest, "--%s takes /POINTER=VALUE, or /POINTER=V1|V2", flag)
		}
		if slices.ContainsFunc(*to, func(r api.RequireJSON) bool { return r.Pointer == pointer }) {
			return false, api.Errorf(api.InvalidRequest, "--%s gives %+.80q twice: name its values with | between them", flag, pointer)
		}
		*to = append(*to, api.RequireJSON{Pointer: pointer, Values: strings.Split(wanted, "|")})
	}
	return false, nil
}

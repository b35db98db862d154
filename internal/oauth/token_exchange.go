package oauth

import (
	"context"
	"maps"
	"slices"
)

// tokenExchange buys a short-lived token with one request of the provider's
// own making, such as Docker Hub's login.
func tokenExchange() kind {
	return kind{
		name:     "token-exchange",
		fits:     func(w *Want) bool { return w.Spec.Type == "token-exchange" && w.Spec.TokenExchange != nil },
		endpoint: func(w *Want) string { return w.Spec.TokenExchange.TokenEndpoint },
		same: func(w *Want) []string {
			x := w.Spec.TokenExchange
			return slices.Concat(pairs(x.Body), listed([]string{x.TokenField}), pairs(w.Secrets))
		},
		again: true,
		build: func(_ context.Context, a *asking) (*ask, error) {
			x := a.want.Spec.TokenExchange
			var list []param
			defer func() { wipeParams(list) }()
			for _, name := range slices.Sorted(maps.Keys(x.Body)) {
				value, err := a.fill(x.Body[name])
				if err != nil {
					return nil, err
				}
				list = append(list, param{name, value})
			}
			return newAsk(x.TokenEndpoint, x.BodyFormat, list), nil
		},
		read: func(a *asking, answer *answer) (*obtained, error) {
			return readToken(a, answer, a.want.Spec.TokenExchange.TokenField)
		},
	}
}

package oauth

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/standin"
)

// An answer that is cut off where nothing says how long it is: the refresh
// token was used up, and a provider that sees it again ends the whole login.
func TestAnAnswerThatIsCutOff(t *testing.T) {
	t.Parallel()
	for _, length := range []int{0, 1, 20, 60} {
		b := newBench(t, standin.IDPOptions{Rotate: true})
		w := b.refreshing(t, nil)
		mustToken(t, b.source(t), w)
		b.clock.Add(time.Hour)
		var cut atomic.Bool
		cut.Store(true)
		cutting, err := standin.Start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			whole := httptest.NewRecorder()
			b.idp.ServeHTTP(whole, r)
			body := whole.Body.Bytes()
			if cut.Load() {
				body = body[:length]
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(body)
		}), idpHost)
		must(t, err)
		s := New(Config{Vault: b.vault(t), Egress: newEgress(cutting.CAPEM(), cutting.Addr()), Clock: b.clock.Now})
		refuse(t, s, w, api.OAuthRefreshFailed, "gave no token that could be used")
		cut.Store(false)
		refuse(t, s, w, api.OAuthRefreshFailed, "not sent again", "aivault oauth login acme")
		b.counts(t, standin.IDPCounts{Asked: 2, Given: 2})
		s.Close()
		cutting.Close()
	}
}

package server_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/server"
)

func handlerOf(v *aivaulttest.Aivault) http.Handler {
	return server.New(server.Config{Broker: v.Broker, Admin: v.Admin, Vault: v.Vault})
}

// recorder is a ResponseRecorder that can do what a real connection can.
type recorder struct{ *httptest.ResponseRecorder }

func (recorder) EnableFullDuplex() error { return nil }

func serveOnce(h http.Handler, kind, body string) (status int, answer []byte) {
	r := httptest.NewRequest(http.MethodPost, api.RouteProxy, strings.NewReader(body))
	r.Header.Set("Content-Type", kind)
	r = r.WithContext(server.WithCaller(context.Background(), aivaulttest.Agent()))
	w := recorder{httptest.NewRecorder()}
	h.ServeHTTP(w, r)
	return w.Code, w.Body.Bytes()
}

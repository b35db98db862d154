package server

import (
	"errors"
	"io"
	"net/http"
	"time"

	"moldable.sh/aivault/internal/api"
)

const typeBytes = "application/octet-stream"

// backup streams a copy of the vault. What breaks it off is named in a
// trailer, so that nobody takes a part of it for the whole.
func (x *exchange) backup() error {
	var req api.BackupRequest
	if err := x.decode(&req, maxOperator, true); err != nil {
		return err
	}
	defer req.Passphrase.Wipe()
	b, err := x.h.cfg.Admin.Backup(x.r.Context(), x.who, req)
	if err != nil {
		return err
	}
	defer b.Close()
	head := x.w.Header()
	head.Set("Content-Type", typeBytes)
	head.Set("Trailer", trailers)
	x.status = http.StatusOK
	x.w.WriteHeader(x.status)
	out := &patientWriter{w: x.w, ctl: http.NewResponseController(x.w)}
	err = b.Write(x.r.Context(), out)
	switch {
	case out.err != nil:
		panic(http.ErrAbortHandler) // the caller is gone
	case err != nil:
		e := api.AsError(err)
		x.h.cfg.Log.Error("a backup broke off", "why", e.Message)
		x.breakOff(e)
	}
	return nil
}

// patientWriter gives a reader its time for each part of an answer, and no
// more.
type patientWriter struct {
	w   io.Writer
	ctl *http.ResponseController
	err error
}

func (p *patientWriter) Write(b []byte) (int, error) {
	_ = p.ctl.SetWriteDeadline(time.Now().Add(bodyPatient))
	n, err := p.w.Write(b)
	p.err = errors.Join(p.err, err)
	return n, err
}

// restore takes a backup as the second part of a request, or none.
func (x *exchange) restore() error {
	var req api.RestoreRequest
	kind, params, err := mediaType(x.r.Header)
	if err != nil || kind == typeJSON {
		if err := x.decode(&req, maxOperator, false); err != nil {
			return err
		}
		defer wipeRestore(&req)
		return reply(x)(x.h.cfg.Admin.Restore(x.r.Context(), x.who, req, nil))
	}
	defer wipeRestore(&req)
	if _, err := x.readParts(http.NewResponseController(x.w), params["boundary"], &req, "backup"); err != nil {
		return err
	}
	done, err := x.h.cfg.Admin.Restore(x.r.Context(), x.who, req, x.body)
	x.body.close()
	if err != nil {
		return err
	}
	return x.answer(done)
}

func wipeRestore(req *api.RestoreRequest) {
	req.Passphrase.Wipe()
	req.Key.Wipe()
}

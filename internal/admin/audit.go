package admin

import (
	"context"
	"errors"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/vault"
)

// defaultRecords is how many records a list has that asks for no number.
const defaultRecords = 200

// AuditStream calls fn with lines of the log, each valid during the call, until
// there are no more or fn fails.
type AuditStream func(ctx context.Context, fn func(line []byte) error) error

// Audit returns the newest records that q picks, oldest first. Where there is
// no vault there are none.
func (a *Admin) Audit(ctx context.Context, who grant.Caller, q audit.Query) (api.AuditList, error) {
	list := api.AuditList{Records: []api.RawRecord{}}
	if q.Limit == 0 {
		q.Limit = defaultRecords
	}
	log, err := a.auditLog(ctx, who, "audit", q, api.MaxAuditRecords)
	if log == nil || err != nil {
		return list, err
	}
	lines, err := log.Find(q)
	if err != nil {
		return list, auditError(err)
	}
	for _, line := range lines {
		if _, err := audit.ParseLine(line); err != nil {
			return api.AuditList{}, api.Errorf(api.VaultUnavailable, "the audit log was changed: among the newest %d lines that were asked for is one that aivault does not write", q.Limit).
				WithHint("aivault audit verify")
		}
		list.Records = append(list.Records, api.RawRecord(line))
	}
	return list, nil
}

// ExportAudit gives everything that q picks, and checks as it reads that each
// line follows.
func (a *Admin) ExportAudit(ctx context.Context, who grant.Caller, q audit.Query) (AuditStream, error) {
	log, err := a.auditLog(ctx, who, "audit export", q, 0)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, fn func([]byte) error) error {
		if log == nil {
			return nil
		}
		return auditError(log.Export(ctx, q, fn))
	}, nil
}

// FollowAudit gives the newest Limit records that q picks and those that come.
func (a *Admin) FollowAudit(ctx context.Context, who grant.Caller, q audit.Query) (AuditStream, error) {
	log, err := a.auditLog(ctx, who, "audit --follow", q, api.MaxAuditRecords)
	if err != nil {
		return nil, err
	}
	if log == nil {
		return nil, api.Errorf(api.VaultUnavailable, "there is no vault, and so no audit log to follow").WithHint("aivault init")
	}
	follow, err := log.Follow(ctx, q)
	if err != nil {
		return nil, auditError(err)
	}
	return func(ctx context.Context, fn func([]byte) error) error { return auditError(follow(ctx, fn)) }, nil
}

// auditLog is the log to read for the operator; nil where there is no vault.
func (a *Admin) auditLog(ctx context.Context, who grant.Caller, what string, q audit.Query, most int) (*audit.Log, error) {
	if err := a.allow(ctx, who, what); err != nil {
		return nil, err
	}
	if err := checkQuery(q, most); err != nil {
		return nil, err
	}
	log, err := a.vault.Audit(ctx)
	if err != nil && a.vault.Status(ctx).State == vault.None && a.vault.CanCreate() == nil {
		return nil, nil
	}
	return log, err
}

// checkQuery refuses what could pick nothing, or what nobody means. most is
// the greatest limit, 0 for none.
func checkQuery(q audit.Query, most int) error {
	bad := func(format string, args ...any) *api.Error { return api.Errorf(api.InvalidRequest, format, args...) }
	switch {
	case q.Limit < 0, most > 0 && q.Limit > most:
		return bad("the limit must lie between 1 and %d", most)
	case q.SinceMs < 0 || q.UntilMs < 0 || q.BeforeMs < 0:
		return bad("a time before 1970 cannot be asked for")
	case q.UntilMs > 0 && q.SinceMs > q.UntilMs:
		return bad("the records of a time that ends before it begins cannot be asked for")
	case q.Capability != "" && !grant.ValidPattern(q.Capability):
		return bad("%s is no capability and no pattern of capabilities", api.Quote(q.Capability)).WithHint("aivault capability list")
	}
	return nil
}

// auditError is what broke the reading off, for the operator.
func auditError(err error) error {
	var chain *audit.ChainError
	var known *api.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &chain):
		return api.Errorf(api.VaultUnavailable, "the audit log was changed: %w", err).WithHint("aivault audit verify")
	case errors.As(err, &known), errors.Is(err, context.Canceled):
		return err
	}
	return api.Errorf(api.Internal, "read the audit log: %w", err)
}

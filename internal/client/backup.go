package client

import (
	"context"
	"io"
	"net/http"

	"moldable.sh/aivault/internal/api"
)

// Backup is a copy of the vault, to be read to its end and closed. A Read that
// ends with anything but io.EOF tells what broke the copy off.
func (c *Client) Backup(ctx context.Context, r api.BackupRequest) (backup io.ReadCloser, err error) {
	err = c.unlocking(ctx, api.RouteBackup, func() error {
		resp, err := c.send(ctx, c.operator, post, api.RouteBackup, r)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			defer resp.Body.Close()
			return readAnswer(resp, nil)
		}
		backup = &answerBody{ctx: ctx, resp: resp, lost: api.DaemonUnreachable}
		return nil
	})
	return backup, err
}

// Restore puts a backup in place. With backup.Reader nil it accepts the vault
// that is in place.
func (c *Client) Restore(ctx context.Context, r api.RestoreRequest, backup Body) (done api.Restored, err error) {
	if backup.Reader == nil {
		return ask[api.Restored](ctx, c, c.operator, post, api.RouteRestore, r)
	}
	defer c.tellDaemon(ctx, post, api.RouteRestore)
	resp, err := c.sendParts(ctx, c.operator, api.RouteRestore, r, "backup", backup)
	if err != nil {
		return done, err
	}
	defer resp.Body.Close()
	return done, readAnswer(resp, &done)
}

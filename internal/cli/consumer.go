package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
)

// consumerFlags name a user or a group of the system.
type consumerFlags struct {
	user, groupName string
	uid             uint32
}

// newConsumerFlags adds the flags to cmd; what says what they are for.
func newConsumerFlags(cmd *cobra.Command, what string) *consumerFlags {
	c := &consumerFlags{}
	f := cmd.Flags()
	f.StringVar(&c.user, "user", "", what+" the user `NAME`")
	f.Uint32Var(&c.uid, "uid", 0, what+" the user with this `UID`")
	f.StringVar(&c.groupName, "group-name", "", what+" the members of the system's group `NAME`")
	return c
}

// get is who was named, nil when nobody was.
func (c *consumerFlags) get(cmd *cobra.Command) (*api.ConsumerRef, error) {
	if err := oneOf(cmd, "user", "uid", "group-name"); err != nil {
		return nil, err
	}
	changed := cmd.Flags().Changed
	switch {
	case changed("user") && c.user == "":
		return nil, api.Errorf(api.InvalidRequest, "--user is empty")
	case changed("group-name") && c.groupName == "":
		return nil, api.Errorf(api.InvalidRequest, "--group-name is empty")
	case changed("user"):
		return &api.ConsumerRef{User: c.user}, nil
	case changed("group-name"):
		return &api.ConsumerRef{GroupName: c.groupName}, nil
	case changed("uid"):
		return &api.ConsumerRef{UID: &c.uid}, nil
	}
	return nil, nil
}

// require is get for a command that must have someone.
func (c *consumerFlags) require(cmd *cobra.Command) (api.ConsumerRef, error) {
	ref, err := c.get(cmd)
	if err != nil {
		return api.ConsumerRef{}, err
	}
	if ref == nil {
		return api.ConsumerRef{}, api.Errorf(api.InvalidRequest, "for whom? give --user, --uid or --group-name")
	}
	return *ref, nil
}

// consumerText names who an entry is for.
func consumerText(c *api.Consumer) string {
	switch {
	case c == nil:
		return "everyone"
	case c.UID != nil && c.User != "":
		return fmt.Sprintf("user %s (uid %d)", c.User, *c.UID)
	case c.UID != nil:
		return fmt.Sprintf("uid %d", *c.UID)
	case c.GID != nil && c.Group != "":
		return fmt.Sprintf("group %s (gid %d)", c.Group, *c.GID)
	case c.GID != nil:
		return fmt.Sprintf("gid %d", *c.GID)
	}
	return "-"
}

// consumerArgs are the flags that name the same again: by number where that
// can be, because a name may have come to mean someone else.
func consumerArgs(c *api.Consumer) string {
	switch {
	case c == nil:
		return ""
	case c.UID != nil:
		return fmt.Sprintf("--uid %d", *c.UID)
	case c.Group != "":
		return "--group-name " + shellWord(c.Group)
	}
	return ""
}

// shellWord is a word as a shell would take it for itself.
func shellWord(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%_+=:,./-{}"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

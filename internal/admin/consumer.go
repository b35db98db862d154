package admin

import (
	"os/user"
	"strconv"
	"strings"
	"unicode"

	"moldable.sh/aivault/internal/api"
)

func systemUser(name string) (uint32, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	return parseUnixID(u.Uid)
}

func systemGroup(name string) (uint32, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, err
	}
	return parseUnixID(g.Gid)
}

func parseUnixID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}

// maxSystemName bounds the name of a user or group.
const maxSystemName = 128

// consumer finds the user or group that a request names.
func (a *Admin) consumer(r *api.ConsumerRef) (api.Consumer, error) {
	if err := checkRef(r); err != nil {
		return api.Consumer{}, err
	}
	switch {
	case r.UID != nil:
		return api.Consumer{UID: new(*r.UID)}, nil
	case r.User != "":
		uid, err := a.lookupUser(r.User)
		if err != nil {
			unknown := api.Errorf(api.InvalidRequest, "the system knows no user %s", api.Quote(r.User))
			if _, err := parseUnixID(r.User); err == nil {
				return api.Consumer{}, unknown.WithHint("a number is given with --uid %s", r.User)
			}
			return api.Consumer{}, unknown
		}
		return api.Consumer{UID: &uid, User: r.User}, nil
	}
	gid, err := a.lookupGroup(r.GroupName)
	if err != nil {
		return api.Consumer{}, api.Errorf(api.InvalidRequest, "the system knows no group %s", api.Quote(r.GroupName))
	}
	return api.Consumer{GID: &gid, Group: r.GroupName}, nil
}

// checkRef wants exactly one of the three, and a name to be one.
func checkRef(r *api.ConsumerRef) error {
	n := 0
	for _, given := range []bool{r.UID != nil, r.User != "", r.GroupName != ""} {
		if given {
			n++
		}
	}
	if n != 1 {
		return api.Errorf(api.InvalidRequest, "name one user or one group").
			WithHint("one of --user NAME, --uid N and --group-name NAME")
	}
	for _, name := range []string{r.User, r.GroupName} {
		if len(name) > maxSystemName || strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) }) || strings.TrimSpace(name) != name {
			return api.Errorf(api.InvalidRequest, "%s is no name of a user or group", api.Quote(name))
		}
	}
	return nil
}

// entriesOf says which entries are a consumer's. One that the system no longer
// knows is told by the name that it had when the entry was made: else its
// entries would stay for good.
func (a *Admin) entriesOf(r *api.ConsumerRef) (func(*api.Consumer) bool, error) {
	c, err := a.consumer(r)
	if err == nil {
		return func(other *api.Consumer) bool { return sameConsumer(&c, other) }, nil
	}
	if invalid := checkRef(r); invalid != nil {
		return nil, invalid
	}
	return func(other *api.Consumer) bool {
		return r.User != "" && other.User == r.User || r.GroupName != "" && other.Group == r.GroupName
	}, nil
}

// sameConsumer says whether two entries are for the same user or group; nil is
// everyone. Names do not count: they are what the ids were called once.
func sameConsumer(c, d *api.Consumer) bool {
	if c == nil || d == nil {
		return c == d
	}
	return sameID(c.UID, d.UID) && sameID(c.GID, d.GID)
}

func sameID(a, b *uint32) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// consumerText names a consumer in a message or a record.
func consumerText(c *api.Consumer) string {
	switch {
	case c == nil:
		return "everyone"
	case c.User != "":
		return "user " + c.User
	case c.UID != nil:
		return "uid " + strconv.FormatUint(uint64(*c.UID), 10)
	case c.Group != "":
		return "group " + c.Group
	case c.GID != nil:
		return "gid " + strconv.FormatUint(uint64(*c.GID), 10)
	}
	return "nobody"
}

// consumerFlag is how a consumer is named on a command line.
func consumerFlag(c *api.Consumer) string {
	switch {
	case c.UID != nil:
		return "--uid " + strconv.FormatUint(uint64(*c.UID), 10)
	case strings.ContainsAny(c.Group, " '\"\\$`"):
		return "--group-name NAME"
	}
	return "--group-name " + c.Group
}

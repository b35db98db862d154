package peer

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"time"
)

// maxGroups is how many groups a peer may be in. Kernels allow 65536, which
// of every connection would be kept for as long as it is open.
const maxGroups = 4096

// errGroups is why a peer is sent away: to leave a group out could let it do
// more, not less.
var errGroups = errors.New("peer: too many groups")

type cachedGroups struct {
	groups []uint32
	until  time.Time
}

// together is one list of a peer's groups: sorted, each once, its own group
// among them.
func together(gid uint32, more []uint32) ([]uint32, error) {
	all := append([]uint32{gid}, more...)
	slices.Sort(all)
	all = slices.Compact(all)
	if len(all) > maxGroups {
		return nil, errGroups
	}
	return slices.Clip(all), nil
}

// listed are the groups that the system's user database gives a user. A user
// that it does not know is in none; a database that does not answer is an
// error.
func (l *Lookup) listed(uid uint32) ([]uint32, error) {
	now := time.Now()
	l.mu.Lock()
	g, ok := l.groups[uid]
	l.mu.Unlock()
	if ok && now.Before(g.until) {
		return g.groups, nil
	}
	groups, err := lookUpGroups(uid)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.groups == nil || len(l.groups) >= maxNames {
		l.groups = make(map[uint32]cachedGroups)
	}
	l.groups[uid] = cachedGroups{groups, now.Add(nameFor)}
	return groups, nil
}

func lookUpGroups(uid uint32) ([]uint32, error) {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		if unknown := user.UnknownUserIdError(0); errors.As(err, &unknown) {
			return nil, nil
		}
		return nil, fmt.Errorf("peer: groups of uid %d: %w", uid, err)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("peer: groups of uid %d: %w", uid, err)
	}
	if len(ids) > maxGroups {
		return nil, errGroups
	}
	groups := make([]uint32, 0, len(ids))
	for _, id := range ids {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("peer: groups of uid %d: %w", uid, err)
		}
		groups = append(groups, uint32(n))
	}
	return groups, nil
}

// selfGroups are this process's own. It is the operator, whom no grant limits:
// a list that cannot be read does no harm.
func selfGroups() []uint32 {
	ids, _ := os.Getgroups()
	more := make([]uint32, 0, len(ids))
	for _, id := range ids {
		more = append(more, uint32(id))
	}
	groups, _ := together(uint32(os.Getegid()), more)
	return groups
}

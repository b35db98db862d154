package peer

import (
	"errors"
	"os"
	"os/user"
	"slices"
	"strconv"
	"testing"
	"time"
)

func TestGroupsOfThisProcess(t *testing.T) {
	a, _ := pair(t)
	who, err := new(Lookup).Of(a)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(who.Groups, uint32(os.Getegid())) || !slices.IsSorted(who.Groups) {
		t.Errorf("groups %v, own group %d", who.Groups, os.Getegid())
	}
	ids, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if !slices.Contains(who.Groups, uint32(id)) {
			t.Errorf("group %d is missing from %v", id, who.Groups)
		}
	}
	if self := Self(); !slices.Contains(self.Groups, who.GID) {
		t.Errorf("Self is in %v", self.Groups)
	}
}

func TestGroupsAreOneBoundedList(t *testing.T) {
	for _, c := range []struct {
		gid  uint32
		more []uint32
		want []uint32
	}{
		{5, nil, []uint32{5}},
		{5, []uint32{5}, []uint32{5}},
		{5, []uint32{9, 1, 9, 5}, []uint32{1, 5, 9}},
	} {
		if got, err := together(c.gid, c.more); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("together(%d, %v) = %v, %v", c.gid, c.more, got, err)
		}
	}
	many := make([]uint32, maxGroups)
	for i := range many {
		many[i] = uint32(i)
	}
	if got, err := together(0, many); err != nil || len(got) != maxGroups {
		t.Errorf("%d groups: %d, %v", maxGroups, len(got), err)
	}
	if got, err := together(maxGroups, many); !errors.Is(err, errGroups) || got != nil {
		t.Errorf("one more: %d, %v", len(got), err)
	}
}

// The user database, where the kernel does not tell.
func TestListedGroups(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	ids, err := me.GroupIds()
	if err != nil {
		t.Fatal(err)
	}
	var l Lookup
	got, err := l.listed(uint32(os.Getuid()))
	if err != nil || len(got) != len(ids) {
		t.Fatalf("%v, %v; want %v", got, err, ids)
	}
	for _, id := range ids {
		if n, _ := strconv.Atoi(id); !slices.Contains(got, uint32(n)) {
			t.Errorf("group %s is missing from %v", id, got)
		}
	}
	// Remembered, for a while.
	uid := uint32(os.Getuid())
	l.groups[uid] = cachedGroups{[]uint32{77}, time.Now().Add(time.Minute)}
	if got, _ := l.listed(uid); !slices.Equal(got, []uint32{77}) {
		t.Errorf("the groups were looked up again: %v", got)
	}
	l.groups[uid] = cachedGroups{[]uint32{77}, time.Now().Add(-time.Second)}
	if got, _ := l.listed(uid); len(got) != len(ids) {
		t.Errorf("the groups were not looked up again: %v", got)
	}
	if got, err := l.listed(4294967293); len(got) != 0 || err != nil {
		t.Errorf("an unknown user is in %v (%v)", got, err)
	}
	for i := range uint32(maxNames + 10) {
		l.groups[1<<20+i] = cachedGroups{}
	}
	if _, err := l.listed(4294967294); err != nil || len(l.groups) > maxNames {
		t.Errorf("the groups of %d users are remembered (%v)", len(l.groups), err)
	}
}

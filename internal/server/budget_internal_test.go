package server

import "testing"

func TestBudgetOfAllUsers(t *testing.T) {
	var b budget
	users := uint32(maxHeld / maxHeldOfOne)
	for uid := range users {
		if !b.take(uid, maxHeldOfOne) || b.take(uid, 1) {
			t.Fatalf("user %d does not get exactly their share", uid)
		}
	}
	if b.take(users, 1) {
		t.Error("all users together hold more than is allowed")
	}
	b.giveBack(0, maxHeldOfOne)
	if !b.take(users, 1) {
		t.Error("what was given back cannot be taken")
	}
	b.giveBack(users, 1)
	for uid := uint32(1); uid < users; uid++ {
		b.giveBack(uid, maxHeldOfOne)
	}
	if b.total != 0 || len(b.of) != 0 {
		t.Errorf("something is left: %d %v", b.total, b.of)
	}
}

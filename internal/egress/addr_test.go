package egress

import (
	"net/netip"
	"testing"

	"moldable.sh/aivault/internal/api"
)

func TestCheckAddr(t *testing.T) {
	const (
		public  = iota // dialled
		private        // dialled with the exception
		never
	)
	for _, tt := range []struct {
		addr string
		want int
	}{
		// Each refused range has a neighbour that is not.
		{"1.1.1.1", public}, {"8.8.8.8", public},
		{"0.0.0.0", never}, {"0.1.2.3", never}, {"1.0.0.0", public},
		{"9.255.255.255", public}, {"10.0.0.0", private}, {"10.255.255.255", private}, {"11.0.0.0", public},
		{"100.63.255.255", public}, {"100.64.0.0", private}, {"100.127.255.255", private}, {"100.128.0.0", public},
		{"100.100.100.200", never}, {"100.100.100.201", private},
		{"126.255.255.255", public}, {"127.0.0.1", private}, {"127.255.255.255", private}, {"128.0.0.0", public},
		{"168.63.129.16", never}, {"168.63.129.17", public},
		{"169.253.255.255", public}, {"169.254.0.1", never}, {"169.254.169.254", never}, {"169.254.170.2", never}, {"169.255.0.0", public},
		{"172.15.255.255", public}, {"172.16.0.0", private}, {"172.31.255.255", private}, {"172.32.0.0", public},
		{"192.0.0.1", never}, {"192.0.0.192", never}, {"192.0.1.1", public}, {"192.0.2.1", never}, {"192.88.99.1", never},
		{"192.167.255.255", public}, {"192.168.0.0", private}, {"192.168.255.255", private}, {"192.169.0.0", public},
		{"198.17.255.255", public}, {"198.18.0.0", never}, {"198.19.255.255", never}, {"198.20.0.0", public},
		{"198.51.100.7", never}, {"203.0.113.7", never},
		{"223.255.255.255", public}, {"224.0.0.1", never}, {"239.255.255.255", never},
		{"240.0.0.1", never}, {"255.255.255.254", never}, {"255.255.255.255", never},

		{"2606:4700:4700::1111", public}, {"2a00:1450:4001::1", public},
		{"::", never}, {"::1", private}, {"::2", never},
		{"::7f00:1", never}, {"::8.8.8.8", never}, // IPv4-compatible
		{"::ffff:127.0.0.1", private}, {"::ffff:10.1.2.3", private}, {"::ffff:169.254.169.254", never}, {"::ffff:8.8.8.8", public},
		{"64:ff9b::7f00:1", never}, {"64:ff9b::a00:1", never}, {"64:ff9b::a9fe:a9fe", never}, {"64:ff9b::808:808", public},
		{"64:ff9b:1::808:808", never}, {"64:ff9b:2::1", never},
		{"100::1", never}, {"1fff::1", never}, {"4000::1", never},
		{"2001::1", never}, {"2001:0:4136:e378:8000:63bf:3fff:fdd2", never}, {"2001:1ff::1", never}, {"2001:200::1", public},
		{"2001:db7::1", public}, {"2001:db8::1", never}, {"2001:db9::1", public},
		{"2002:7f00:1::", never}, {"2002:808:808::1", never}, {"2003::1", public},
		{"2606::5efe:a00:1", never}, {"2606::200:5efe:808:808", never}, {"2606::100:5efe:808:808", public},
		{"2620:4f:8000::1", never}, {"3fff::1", never}, {"3fff:1000::1", public},
		{"fbff::1", never}, {"fc00::1", private}, {"fdff:ffff::1", private},
		{"fd00:ec2::254", never}, {"fd00:ec2::1", never}, {"fd00:ec3::254", private}, {"fd20:ce::254", never}, {"fd00:c1::a9fe:a9fe", never},
		{"fe80::1", never}, {"febf::1", never}, {"fec0::1", never}, {"ff02::1", never},
		{"fe80::1%eth0", never}, {"2606:4700:4700::1111%eth0", never}, {"::1%lo", never},
	} {
		a := netip.MustParseAddr(tt.addr)
		for _, allow := range []bool{false, true} {
			err := CheckAddr(a, allow)
			if want := tt.want == public || tt.want == private && allow; (err == nil) != want {
				t.Errorf("CheckAddr(%s, %v) = %v", tt.addr, allow, err)
			}
			if err != nil && api.CodeOf(err) != api.PolicyViolation {
				t.Errorf("CheckAddr(%s): code %s", tt.addr, api.CodeOf(err))
			}
		}
	}
	if CheckAddr(netip.Addr{}, true) == nil {
		t.Error("the zero Addr was let through")
	}
}

// FuzzCheckAddr: an address is judged alike in each of its spellings, and the
// exception for private addresses only ever widens.
func FuzzCheckAddr(f *testing.F) {
	for _, s := range []string{"127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "fd00:ec2::254", "2606:4700::1", "100.100.100.200"} {
		b := netip.MustParseAddr(s).As16()
		f.Add(b[:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 16 {
			return
		}
		a := netip.AddrFrom16([16]byte(b[:16]))
		v4 := netip.AddrFrom4([4]byte(b[12:16]))
		mapped := netip.AddrFrom16(v4.As16())
		nat64 := netip.MustParseAddr("64:ff9b::").As16()
		copy(nat64[12:], b[12:16])
		for _, allow := range []bool{false, true} {
			if (CheckAddr(a, allow) == nil) != (CheckAddr(a.Unmap(), allow) == nil) {
				t.Errorf("%s and its unmapped form differ", a)
			}
			if (CheckAddr(v4, allow) == nil) != (CheckAddr(mapped, allow) == nil) {
				t.Errorf("%s and %s differ", v4, mapped)
			}
			if CheckAddr(v4, false) != nil && CheckAddr(netip.AddrFrom16(nat64), allow) == nil {
				t.Errorf("%s is reached through NAT64", v4)
			}
		}
		if CheckAddr(a, false) == nil && CheckAddr(a, true) != nil {
			t.Errorf("the exception took %s away", a)
		}
		if a := a.Unmap(); CheckAddr(a, true) == nil &&
			(a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() || !a.IsGlobalUnicast() && !a.IsLoopback()) {
			t.Errorf("%s is dialled with the exception", a)
		}
		if CheckAddr(a, false) == nil && (a.Unmap().IsPrivate() || a.Unmap().IsLoopback()) {
			t.Errorf("%s is dialled without the exception", a)
		}
	})
}

package daemon

import "testing"

func TestStatusField(t *testing.T) {
	status := []byte("Name:\tTracerPid: 7\nNoNewPrivs:\t1\nTracerPid:\t42\nTracerPid:\t43\nBad:\tx\n")
	for name, want := range map[string]int{"NoNewPrivs": 1, "TracerPid": 42, "Bad": -1, "None": -1, "Name": -1} {
		if got := statusField(status, name); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
	if tracer() != 0 {
		t.Error("this test is traced, so that the tests of what is in force say nothing")
	}
}

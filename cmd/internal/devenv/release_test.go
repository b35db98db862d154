//go:build !aivault_dev

package devenv

import "testing"

func TestAReleaseKnowsNoDevelopmentVariables(t *testing.T) {
	if d, err := Read([]string{"AIVAULT_DEV_RESOLVE=a=127.0.0.1:1"}); d != nil || err != nil {
		t.Errorf("%+v %v", d, err)
	}
}

//go:build aivault_dev

package devenv

import (
	"os"
	"path/filepath"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/standin"
)

func TestRead(t *testing.T) {
	d, err := Read([]string{"HOME=/h", "AIVAULT_DEV_RESOLVE=API.example.com=127.0.0.1:1,b.test=[::1]:2", "AIVAULT_DEV_DNS=127.0.0.1:53", "AIVAULT_DEV_ALLOW_NON_DEFAULT_PORTS=1"})
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Resolve) != 2 || d.Resolve["api.example.com"].String() != "127.0.0.1:1" || d.Resolve["b.test"].String() != "[::1]:2" ||
		d.DNS != "127.0.0.1:53" || d.Lookup == nil || !d.AnyPort || d.Roots != nil {
		t.Errorf("%+v", d)
	}
	if d, err := Read(nil); err != nil || d == nil || d.AnyPort || d.Lookup != nil {
		t.Errorf("without variables: %+v %v", d, err)
	}
	for _, bad := range []string{"AIVAULT_DEV_RESOLVE=x", "AIVAULT_DEV_RESOLVE=x=1.2.3.4", "AIVAULT_DEV_RESOLVE==1.2.3.4:5", "AIVAULT_DEV_RESOLVE=a=1.2.3.4:5,",
		"AIVAULT_DEV_DNS=localhost:53", "AIVAULT_DEV_ALLOW_NON_DEFAULT_PORTS=yes", "AIVAULT_DEV_CA_CERT_PATH=/nonexistent", "AIVAULT_DEV_TYPO=1"} {
		if d, err := Read([]string{bad}); api.CodeOf(err) != api.InvalidRequest {
			t.Errorf("%s: %+v %v", bad, d, err)
		}
	}
}

func TestRoots(t *testing.T) {
	a, err := standin.Start(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, a.CAPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := Read([]string{"AIVAULT_DEV_CA_CERT_PATH=" + file}); err != nil || d.Roots == nil {
		t.Errorf("%+v %v", d, err)
	}
	if err := os.WriteFile(file, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read([]string{"AIVAULT_DEV_CA_CERT_PATH=" + file}); api.CodeOf(err) != api.InvalidRequest {
		t.Error(err)
	}
}

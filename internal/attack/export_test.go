package attack

import (
	"testing"

	"moldable.sh/aivault/internal/registry"
)

// DecoyKeys are an RSA key, a certificate and its key, as PEM.
func DecoyKeys(t *testing.T) (rsa, cert, key string) {
	t.Helper()
	var d decoys
	rsa, err1 := d.rsaKey()
	cert, err2 := d.certificate()
	key, err3 := d.certificatesKey()
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	return rsa, cert, key
}

// Undecoyed are the fields of the registry's providers for which there is no
// decoy.
func Undecoyed(t *testing.T) (fields []string) {
	t.Helper()
	known, err := registry.Load()
	if err != nil {
		t.Fatal(err)
	}
	d := decoys{registry: known}
	for _, id := range known.Providers() {
		for _, s := range known.Provider(id).Secrets {
			u := d.usedBy(id, s.Field)
			if v, err := d.value([]use{u}); err != nil || !u.takes(v) {
				fields = append(fields, id+" "+s.Field)
			}
		}
	}
	return fields
}

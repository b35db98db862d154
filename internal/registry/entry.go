package registry

import (
	"fmt"
	"sync"
	"sync/atomic"

	"moldable.sh/aivault/internal/strictjson"
	files "moldable.sh/aivault/registry"
)

// An entry is one provider of a registry: what the index says of it, and its
// file once it was decoded.
type entry struct {
	Summary
	made         bool // from a Provider, not from a file
	once         sync.Once
	there        atomic.Bool
	provider     *Provider // after once
	capabilities map[string]*Capability
	sets         map[string]*Set
}

// decoded returns the provider. A file that cannot be decoded breaks this
// provider alone: it keeps its names, so that they stay claimed, and has
// nothing that could be called.
func (e *entry) decoded() *Provider {
	e.once.Do(func() {
		defer e.there.Store(true)
		data, err := files.Files.ReadFile(e.file())
		if err == nil {
			e.decode(data)
			return
		}
		e.fail(fmt.Errorf("registry: read %s: %w", e.file(), err))
	})
	return e.provider
}

func (e *entry) file() string { return e.ID + ".json" }

func (e *entry) decode(data []byte) {
	p := new(Provider)
	if err := strictjson.Unmarshal(data, p); err != nil {
		e.fail(fmt.Errorf("registry: %s: %w", e.file(), err))
		return
	}
	if p.ID != e.ID || len(p.Capabilities) != e.Capabilities {
		e.fail(fmt.Errorf("registry: %s is not what the index of the registry says", e.file()))
		return
	}
	e.take(p)
}

func (e *entry) fail(why error) {
	e.provider = &Provider{
		SchemaVersion: SchemaVersion, ID: e.ID, Title: e.Title, GetKey: e.GetKey, Secrets: e.Secrets, broken: why,
	}
}

func (e *entry) take(p *Provider) {
	e.provider = p
	e.capabilities = make(map[string]*Capability, len(p.Capabilities))
	for i := range p.Capabilities {
		e.capabilities[p.Capabilities[i].ID] = &p.Capabilities[i]
	}
	e.sets = make(map[string]*Set, len(p.Sets))
	for i := range p.Sets {
		e.sets[p.Sets[i].ID] = &p.Sets[i]
	}
}

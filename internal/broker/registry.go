package broker

import (
	"moldable.sh/aivault/internal/api"
)

// Registry lists the providers that are compiled in. They are no secret:
// every caller may know them.
func (b *Broker) Registry() api.RegistryList {
	r := b.catalog.registry
	list := api.RegistryList{Providers: []api.RegistryProvider{}}
	for _, id := range r.Providers() {
		s := r.Summary(id)
		list.Providers = append(list.Providers, api.RegistryProvider{
			Provider: id, Title: s.Title, Capabilities: s.Capabilities, Secrets: append([]string{}, s.First...), Login: s.ByLogin(),
		})
	}
	return list
}

// RegistryFile is the file of one provider.
func (b *Broker) RegistryFile(id string) (api.RawRecord, error) {
	file, err := b.catalog.registry.File(id)
	if err != nil {
		return nil, api.Errorf(api.Internal, "broker: %w", err)
	}
	if file == nil {
		return nil, api.Errorf(api.CapabilityNotFound, "the registry has no provider %s", api.Quote(id)).WithHint("aivault registry list")
	}
	return file, nil
}

// Package registry holds the provider definitions that are compiled into the
// binary: one JSON file each, and the schema that editors check them by. It is
// data alone; internal/registry reads it.
package registry

import "embed"

// Files are the provider files, flat, named PROVIDER.json.
//
//go:embed *.json
var Files embed.FS

// Schema is the JSON Schema (2020-12) of a provider file.
//
//go:embed schemas/registry-provider.schema.json
var Schema []byte

// Package registry holds the provider definitions that are compiled into the
// binary: one JSON file each, the index made from them, and the schema that
// editors check them by. It is data alone; internal/registry reads it.
package registry

import "embed"

//go:generate go test ../internal/registry -run ^TestIndex$ -update

// Files are the provider files, flat, named PROVIDER.json.
//
//go:embed *.json
var Files embed.FS

// Index is what is known of each provider before its file is decoded.
//
//go:embed index.txt
var Index string

// Schema is the JSON Schema (2020-12) of a provider file.
//
//go:embed schemas/registry-provider.schema.json
var Schema []byte

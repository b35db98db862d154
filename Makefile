# aivault: `make demo` to see it work, `make test` to test it.

GO      ?= go
GOTEST  ?= $(GO) test
PREFIX  ?= /usr/local
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
# Where git can be asked, the binaries carry the commit that they were built from.
VCS     := -buildvcs=$(shell git status --porcelain >/dev/null 2>&1 && echo auto || echo false)
LDFLAGS := -X main.version=$(VERSION)
# The race detector needs a C compiler; without one the tests run without it.
RACE    ?= $(shell command -v $$($(GO) env CC) >/dev/null 2>&1 && echo -race)
FUZZTIME ?= 10s

.PHONY: all demo test test-system check lint bench fuzz generate install cross clean

all: bin/aivault bin/aivaultd

bin/aivault bin/aivaultd: FORCE
	@$(GO) build -trimpath $(VCS) -ldflags '$(LDFLAGS)' -o $@ ./cmd/$(notdir $@)
.PHONY: FORCE
FORCE:

## demo: build both binaries and watch a call reach an HTTPS API with a key that the caller never sees
demo: all
	@bin/aivault demo

## test: everything that needs Go alone: no root, nothing installed, nothing outside the checkout touched
test:
	$(GOTEST) $(RACE) -timeout 15m ./...

## test-system: what needs root: other users, mounts, namespaces (Debian or Ubuntu; installs what it needs)
test-system:
	.ci/system

## check: format, vet and the fast tests, in under a minute
check:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'run gofmt -w on these'; exit 1; }
	$(GO) vet ./...
	$(GO) test -short ./internal/...

## lint: staticcheck, at the version that tools/go.mod pins
lint:
	$(GO) build -C tools -o $(CURDIR)/bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	bin/staticcheck ./...
	bin/staticcheck -tags aivault_dev ./cmd/...

## bench: the table of docs/performance.md
bench: all
	$(GO) build -o bin/bench ./bench
	bin/bench -aivault bin/aivault $(BENCHFLAGS)

## fuzz: every fuzz target for FUZZTIME
fuzz:
	.ci/fuzz $(FUZZTIME)

## generate: the reference pages that are made from the code
generate:
	$(GO) generate ./...

## cross: both binaries build for each platform, and all of it is vetted for darwin
cross:
	@for os in linux darwin; do for arch in amd64 arm64; do \
		echo "GOOS=$$os GOARCH=$$arch"; \
		CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch $(GO) build -o /dev/null ./cmd/aivault && \
		CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch $(GO) build -o /dev/null ./cmd/aivaultd || exit 1; done; done
	CGO_ENABLED=0 GOOS=darwin GOARCH=arm64 $(GO) vet ./...

## install: both binaries side by side under PREFIX
install: all
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 0755 bin/aivault bin/aivaultd $(DESTDIR)$(PREFIX)/bin/

clean:
	rm -rf bin

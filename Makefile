# Sluice: run, test, bench, build, lint, fuzz. `make help` lists them.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
GO          ?= go
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS     := -s -w -X main.version=$(VERSION)
FUZZTIME    ?= 20s
PACKAGES    := ./...

.PHONY: help run build test tools vet lint unit versus bench bench-versus bench-regress fuzz clean

BASE ?= HEAD^

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

run: build ## start the gateway in front of a small example service, nothing else needed
	bin/sluice demo

build: ## the static binary, in bin/sluice
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/sluice ./cmd/sluice

test: tools lint unit versus ## everything that decides a landing

tools: ## what the tests need beside Go, installed when missing
	@.ci/tools

vet:
	$(GO) vet $(PACKAGES)

lint: vet ## vet, gofmt, go.mod
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$unformatted" ]; then echo "not gofmt-ed:"; echo "$$unformatted"; exit 1; fi
	$(GO) mod verify >/dev/null
	$(GO) mod tidy -diff

unit: ## unit, property and end-to-end tests, under the race detector
	$(GO) test -race -timeout 12m $$($(GO) list $(PACKAGES) | grep -v /e2e$$)
	$(GO) test -race -parallel 3 -timeout 12m ./cmd/sluice/e2e # alone: many processes, which look at the clock
	$(GO) test -run 'Alloc|Memory|Flood' -timeout 5m $(PACKAGES)
	$(GO) test -run 'ClusterKeepsOneLimit|ClusterMemberKilled' -timeout 5m ./cmd/sluice/e2e # to the percent: the race detector makes gossip late

versus: ## the rivals' module builds, and all in it agree
	cd bench/versus && $(GO) vet ./... && $(GO) test ./...

bench: ## benchmarks beside the code, and routers side by side
	$(GO) test -run '^$$' -bench . -benchmem -timeout 30m $(PACKAGES)
	cd bench/versus && $(GO) test -run '^$$' -bench . -benchmem -cpu 1,2 -timeout 60m ./...

bench-versus: tools ## whole gateways side by side: Sluice, nginx, HAProxy, Caddy, Traefik and a plain proxy on fasthttp
	cd bench/versus && $(GO) build -o ../../bin/gateways ./gateways && ../../bin/gateways $(ARGS)

bench-regress: ## hot paths against BASE (a revision); fails on a significant loss of over 5 %
	@.ci/regress $(BASE)

fuzz: ## every fuzz target for FUZZTIME each
	@for pkg in $$($(GO) list $(PACKAGES)); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; \
	done

clean: ## remove what was built
	rm -rf bin

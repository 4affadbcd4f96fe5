# Everything that one does with Tollgate from a checkout. `make` alone lists it.
GO ?= go
BIN := bin
# Minutes and seeds of the long runs.
MINUTES ?= 10
RECORDS ?= 10000000

.DEFAULT_GOAL := help
.PHONY: help build test short demo bench check fuzz chaos clean

help: ## list what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/tollgate and bin/tollbench
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./cmd/...

demo: build ## start everything, play traffic, print a statement and the proof (KAFKA=apache for Apache Kafka)
	$(BIN)/tollgate demo $(if $(KAFKA),--kafka=$(KAFKA))

test: check ## every test, on real servers that it starts itself
	$(GO) test -timeout 20m ./...

short: ## the tests that need no server
	$(GO) test -short ./...

check: ## formatting and vet
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo "run gofmt -w on the files above"; exit 1; }
	$(GO) vet ./...

bench: build ## the end-to-end benchmark on Apache Kafka (RECORDS=n)
	$(BIN)/tollbench --records $(RECORDS)

clean: ## remove what was built
	rm -rf $(BIN)

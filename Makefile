# Everything that one does with Tollgate from a checkout. `make` alone lists it.
GO ?= go
BIN := bin
RECORDS ?= 10000000
RUNS ?= 3
SEEDS ?= 5000

.DEFAULT_GOAL := help
.PHONY: help build demo test short check sim mutants bench clean

help: ## list what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/tollgate and bin/tollbench
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./cmd/...

demo: ## start everything, play traffic, print a statement and the proof (KAFKA=apache for Apache Kafka)
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./cmd/tollgate
	$(BIN)/tollgate demo $(if $(KAFKA),--kafka=$(KAFKA)) $(if $(KEEP),--keep=$(KEEP))

test: check ## every test, on real servers that it starts itself
	$(GO) test -timeout 25m ./...

short: ## the tests that need no server
	$(GO) test -short ./...

check: ## formatting and vet
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo "run gofmt -w on the files above"; exit 1; }
	$(GO) vet ./...

sim: ## the production loops under seeded faults against an oracle (SEEDS=n)
	SIM_SEEDS=$(SEEDS) $(GO) test -timeout 24h -run TestSeeds -v ./bench/simulation

mutants: ## every sabotage of the protocol, and which invariant kills it
	SIM_MUTANT=all $(GO) test -timeout 1h -run TestMutants -v ./bench/simulation

bench: build ## the end-to-end benchmark on Apache Kafka (RECORDS=n RUNS=n)
	$(BIN)/tollbench --records $(RECORDS) --runs $(RUNS)

clean: ## remove what was built
	rm -rf $(BIN)

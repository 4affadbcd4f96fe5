# Everything that one does with Tollgate from a checkout. `make` alone lists it.
GO ?= go
BIN := bin
RECORDS ?= 10000000
RUNS ?= 3
SEEDS ?=
SIM_MINUTES ?= 5
SIM_FROM ?= 1
MINUTES ?= 3
FUZZTIME ?= 20s

.DEFAULT_GOAL := help
.PHONY: help build demo test short check fuzz sim mutants model chaos bench clean

help: ## list what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the programs into bin
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./cmd/...

demo: ## start everything, play traffic, print a statement and the proof (KAFKA=apache for Apache Kafka)
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./cmd/tollgate
	$(BIN)/tollgate demo $(if $(KAFKA),--kafka=$(KAFKA)) $(if $(KEEP),--keep=$(KEEP))

test: check ## every test, on real servers that it starts itself, then chaos and simulation, five minutes each
	$(GO) test -timeout 25m $$($(GO) list ./... | grep -v /bench/chaos)
	$(GO) test -timeout 25m -v -run TestChaos ./bench/chaos
	$(MAKE) sim

short: ## the tests that need no server
	$(GO) test -short ./...

check: ## formatting and vet
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo "run gofmt -w on the files above"; exit 1; }
	$(GO) vet ./...

fuzz: ## every fuzz target in turn, and how often each was run (FUZZTIME=20s)
	@mkdir -p $(BIN)
	@grep -rn '^func Fuzz' --include='*_test.go' . | sed -E 's|^(.*)/[^/]*:[0-9]+:func (Fuzz[A-Za-z]+).*|\1 \2|' | sort | \
	while read -r folder target; do \
		$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$folder >$(BIN)/fuzz.log 2>&1 || { cat $(BIN)/fuzz.log; exit 1; }; \
		echo "$$folder $$target: $$(sed -nE 's/.*execs: ([0-9]+).*/\1 executions/p' $(BIN)/fuzz.log | tail -1)"; \
	done; status=$$?; rm -f $(BIN)/fuzz.log; exit $$status

sim: ## the production loops under seeded faults against an oracle (SIM_MINUTES=n or SEEDS=n, SIM_FROM=n)
	SIM_SEEDS=$(SEEDS) SIM_MINUTES=$(SIM_MINUTES) SIM_FROM=$(SIM_FROM) $(GO) test -count 1 -timeout 240h -run 'TestSeeds$$' -v ./bench/simulation

mutants: ## every sabotage of the protocol, and which invariant kills it
	SIM_MUTANT=all $(GO) test -timeout 3h -run TestMutants -v ./bench/simulation

model: ## the protocol alone, every interleaving, with Spin; and every mutant of it
	MODEL=all $(GO) test -count 1 -timeout 3h -v ./bench/protocol

chaos: build ## real processes killed, paused, disconnected and emptied while records flow (MINUTES=n SEED=n)
	$(BIN)/tollchaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

bench: build ## the end-to-end benchmark on Apache Kafka (RECORDS=n RUNS=n)
	$(BIN)/tollbench --records $(RECORDS) --runs $(RUNS)

clean: ## remove what was built
	rm -rf $(BIN)

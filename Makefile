# The commands a newcomer and CI type. `make` alone lists them.

local := cargo run --quiet --package tests --bin local --

.DEFAULT_GOAL := help
.PHONY: help demo test soak bench static up down check programs

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: programs ## start a cluster, play an incident in it from refusal to list, leave it up
	@$(local) demo

test: programs ## every test: the fast ones, then those against a real control plane
	@$(local) build
	cargo test --locked
	cargo test --locked --package tests

soak: programs ## look for a write that gets around the gate (15 min), and for one that a restart fails (5 min) (SECONDS=…, SEED=…)
	@$(local) build
	@# As fast as a release: what is under way at 200 writes a second is not what is under way at 50.
	cargo build --profile load --locked --quiet --package tests --bins
	@target/load/local soak bypass $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))
	@target/load/local soak rolling $(if $(SECONDS),--seconds $(SECONDS))
	@seed=$(or $(SEED),$$(date +%s)); echo "the seed of the properties is $$seed"; \
	PROPTEST_RNG_SEED=$$seed PROPTEST_CASES=20000 cargo test --locked --quiet --package breakglass --lib
	@command -v cargo-fuzz >/dev/null || { echo "cargo-fuzz is not installed: the parsers are not fuzzed"; exit 0; }; \
	for target in review patch diff; do cargo fuzz run -s none $$target -- -max_total_time=60 || exit 1; done

bench: ## measure what breakglass costs, beside a webhook that does nothing (FULL=1: longer, ONLY="W-1 C-1", SHORT=1)
	@$(local) build
	@# One package at a time: cargo gives all that it builds at once the features that any of them needs.
	cargo build --release --locked --quiet --package webhook
	cargo build --release --locked --quiet --package noop
	cargo build --release --locked --quiet --package kubectl-breakglass
	cargo build --profile load --locked --quiet --package bench
	@target/load/bench $(if $(FULL),--full) $(if $(SHORT),--short) $(if $(UPDATE),--page bench/RESULTS.md) $(ONLY)

static: ## build the program that the image holds, and run it where there is nothing else (needs root)
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked \
		--target "$$(rustc --print host-tuple)" --package webhook
	@root=$$(mktemp -d) && chmod 755 "$$root" && trap 'rm -r "$$root"' EXIT && cp target/*-unknown-linux-gnu/release/breakglass-webhook "$$root" && \
	env -i PATH="$$PATH" chroot --userspec=65532:65532 "$$root" /breakglass-webhook --version

up: programs ## start a cluster with Flux, breakglass and people and leave it up (BARE=1: two nodes to install breakglass on)
	@$(local) up $(if $(BARE),--bare)

down: ## end what `make up` and `make demo` left up
	@$(local) down

check: ## format, lints, licences, and what the pages promise
	cargo fmt --all -- --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo test --locked --package tests --test tidy

programs:
	@cargo build --package tests --bins

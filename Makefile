# The commands a newcomer and CI type. `make` alone lists them.

local := cargo run --quiet --package tests --bin local --

.DEFAULT_GOAL := help
.PHONY: help demo test up down check programs

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: programs ## start a cluster, play an incident in it from refusal to list, leave it up
	@$(local) demo

test: programs ## every test: the fast ones, then those against a real control plane
	@$(local) build
	cargo test --locked
	cargo test --locked --package tests

up: programs ## start a cluster with Flux, breakglass and people and leave it up (BARE=1: without breakglass)
	@$(local) up $(if $(BARE),--bare)

down: ## end what `make up` and `make demo` left up
	@$(local) down

check: ## format, lints, licences, and what the pages promise
	cargo fmt --all -- --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo test --locked --package tests --test tidy

programs:
	@cargo build --package tests --bins

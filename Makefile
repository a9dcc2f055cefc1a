# The two commands are `make run` and `make test`; the rest are parts of them, or longer runs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := run

WEB_SOURCES := $(shell find web/app web/client -type f \
	\( -name '*.ts' -o -name '*.tsx' -o -name '*.css' -o -name '*.html' -o -name '*.svg' -o -name 'package.json' \) \
	-not -path '*/node_modules/*' -not -path '*/build/*' 2>/dev/null)
NODE_MODULES := web/node_modules/.package-lock.json
SECONDS_PER_FUZZ_TARGET ?= 60

.PHONY: run web server test check test-rust test-web e2e test-tools soak fuzz bench wasm deny format clean help

help: ## Show the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: web ## Build the web app and the server, and serve on http://localhost:8080.
	cargo run --release --locked -p grove-server -- serve

web: web/dist/index.html ## Build the web app into web/dist.

$(NODE_MODULES): web/package-lock.json
	cd web && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

web/dist/index.html: $(NODE_MODULES) $(WEB_SOURCES)
	cd web && npm run --silent build
	@touch $@

test: test-tools check test-rust test-web e2e ## Install what tests need and run everything.

test-tools:
	scripts/install-test-tools.sh

check: $(NODE_MODULES) ## Formatting, lints, types, documentation, the wasm build.
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
	cd web && npm run --silent check
	scripts/wasm.sh

test-rust: web ## Rust tests.
	cargo nextest run --workspace --locked

test-web: $(NODE_MODULES) ## Unit tests of the web packages.
	cd web && npx vitest run --project unit

e2e: web ## Whole calls in real browsers.
	cargo build --locked -p grove-server -p grove-lab
	cd web && npx vitest run --project e2e

soak: web ## Larger rooms, and fifty rooms at once under BBVoice's limits.
	cargo build --release --locked -p grove-server -p grove-lab
	cd web && GROVE_BIN=../../target/release/grove npx vitest run --project soak
	target/release/grove-lab rooms --rooms 50 --clients 4

# New finds gather in fuzz/target/corpus; what is worth keeping is copied into fuzz/corpus by hand.
fuzz: ## Fuzz every parser of foreign bytes for SECONDS_PER_FUZZ_TARGET each.
	command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	for target in $$(cd fuzz && cargo +nightly fuzz list); do \
		mkdir -p fuzz/target/corpus/$$target; \
		cargo +nightly fuzz run $$target fuzz/target/corpus/$$target fuzz/corpus/$$target \
			-- -max_total_time=$(SECONDS_PER_FUZZ_TARGET) -max_len=66000 || exit 1; \
	done

bench: web ## Reproduce the published experiments; reports and pictures into test-results/.
	cargo build --release --locked -p grove-server -p grove-lab
	mkdir -p test-results
	target/release/grove-lab join-times --peers 5,7,10 --json test-results/join-times.json --svg test-results/join-times.svg
	target/release/grove-lab join-times --native --peers 5,7,10,25,50 --policy mesh,tree,relay --json test-results/join-times-native.json --svg test-results/join-times-native.svg
	target/release/grove-lab star --link rtp,quic --receivers 16,50 --json test-results/star.json --svg test-results/star.svg
	target/release/grove-lab forward --json test-results/forward.json --svg test-results/forward.svg
	target/release/grove-lab faults --json test-results/faults.json --svg test-results/faults.svg
	target/release/grove-lab plan --json test-results/plan.json --svg test-results/plan.svg
	target/release/grove-lab plan --goals --viewers 100000 --json test-results/plan-goals.json
	target/release/grove-lab hops --json test-results/hops.json --svg test-results/hops.svg
	cargo test --release --locked -p grove-tree -- --ignored --nocapture
	cargo bench --locked -p grove-tree --bench broadcast

deny: ## Licences, sources and banned crates.
	command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny check licenses bans sources

format: $(NODE_MODULES) ## Format everything.
	cargo fmt --all
	cd web && npm run --silent format

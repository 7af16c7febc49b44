# The proof under attack; included by the Makefile. docs/testing.md says what each part proves, and what it found.
#
#   make fuzz           each fuzzer for SECONDS (60); `fuzz/run` has more
#   make loom           the mailbox in every order that its threads can run in (part of make test)
#   make tsan           the C hosts with many threads and the library under the thread sanitizer; compiles Rust's std
#   make soak           a long life under all that happens to a hub, SECONDS (3600); target/soak/report.md
#   make abuse          thousands of hostile clients beside honest ones; target/abuse/report.md
#   make test-stress    the parts of make test that have clocks in them, on a machine that is slow in three ways; before a
#                       release. PARTS= and WAYS= choose, as tests/stress/run says
#   make test-faults    no descriptors, a clock that is set, a hub and a host that are killed (part of make test)
#   make deny           licences, sources and unwanted crates among the dependencies (part of make test); where cargo-deny is
#                       missing it is built, which takes minutes

SECONDS ?=
# Where there is none: known to build with the toolchain that the library needs, and to read deny.toml.
CARGO_DENY = 0.20.2

.PHONY: fuzz loom tsan soak abuse test-stress test-faults deny

fuzz:
	@tests/need $(RUST) c++:build-essential
	fuzz/run $(or $(SECONDS),60)

loom:
	@tests/need $(RUST)
	tests/loom/run

tsan: examples
	tests/c/run threads

soak: library
	tests/soak/run $(or $(SECONDS),3600)

abuse: examples $(BENCH_BIN)/pushload
	tests/abuse/run

test-stress: examples nginx-module go-set-up
	tests/stress/run $(WAYS) $(PARTS)

test-faults: examples
	tests/abuse/run faults

deny:
	@tests/need $(RUST) cc:build-essential
	@cargo deny --version >/dev/null 2>&1 || { echo 'set-up: cargo-deny is missing; building it'; cargo install --quiet --locked --version $(CARGO_DENY) cargo-deny; }
	cargo deny check licenses bans sources

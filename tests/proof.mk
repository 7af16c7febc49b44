# The proof under attack; included by the Makefile. docs/testing.md says what each part proves, and what it found.
#
#   make fuzz           each fuzzer for SECONDS (60); `fuzz/run` has more
#   make loom           the mailbox in every order that its threads can run in (part of make test)
#   make soak           a long life under all that happens to a hub, SECONDS (3600); target/soak/report.md

SECONDS ?=

.PHONY: fuzz loom soak

fuzz:
	@tests/need $(RUST) c++:build-essential
	fuzz/run $(or $(SECONDS),60)

loom:
	@tests/need $(RUST)
	tests/loom/run

soak: library
	tests/soak/run $(or $(SECONDS),3600)

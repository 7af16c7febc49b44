# The proof under attack; included by the Makefile. docs/testing.md says what each part proves, and what it found.
#
#   make fuzz           each fuzzer for SECONDS (60); `fuzz/run` has more
#   make loom           the mailbox in every order that its threads can run in (part of make test)

SECONDS ?=

.PHONY: fuzz loom

fuzz:
	@tests/need $(RUST) c++:build-essential
	fuzz/run $(or $(SECONDS),60)

loom:
	@tests/need $(RUST)
	tests/loom/run

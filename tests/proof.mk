# Tests under attack. The Makefile includes this. docs/testing.md says what each part proves, and what it found.
#
#   make fuzz           each fuzzer for SECONDS (60); `fuzz/run` has more
#   make loom           the mailbox in every order in which its threads can run (part of make test)
#   make tsan           the C hosts with many threads and the library under the thread sanitizer; compiles Rust's std
#   make soak           a long life with all the faults that a hub can have, SECONDS (3600); target/soak/report.md
#   make abuse          thousands of hostile clients beside honest ones; target/abuse/report.md
#   make test-stress    the parts of make test with clocks in them, on a machine that is slow in three ways; for use before
#                       a release. PARTS= and WAYS= choose a part of it, see tests/stress/run
#   make test-power     pushd with a log, killed 200 times under load, and 200 losses of power; make test has fewer
#   make test-tls       TLS with 2,000 clients, while certificates are renewed and nginx in front is reloaded (make test
#                       has fewer), and under testssl.sh
#   make test-ktls      TLS with `tls_kernel`, and nginx with TLS in the kernel, in a virtual machine with Debian's kernel,
#                       which is emulated; some minutes, and the tests and the module for nginx are built before
#   make test-cluster   hubs that share a log in Redis or NATS, under load, while they and its servers fail, 130 times;
#                       target/cluster/report.md. FAULTS= chooses some of the faults, SHORT=1 does each twice
#   make test-faults    no descriptors, a clock that is set, a hub and a host that are killed, and some of test-cluster,
#                       twice each (part of make test)
#   make deny           licences, sources and unwanted crates among the dependencies (part of make test); if cargo-deny
#                       is missing, it is built, which takes minutes

SECONDS ?=

.PHONY: fuzz loom tsan soak abuse test-stress test-power test-tls test-ktls test-cluster test-faults deny

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

test-power:
	@tests/need $(RUST) cc:build-essential
	PUSH_ENDS=200 cargo test --test engine -- power:: planted:: truth::

test-tls: nginx-module
	tests/tls/run

test-ktls: nginx-module
	tests/ktls/run $(TEST)

test-cluster: library
	tests/cluster/run $(if $(SHORT),--short) $(FAULTS)

test-faults: examples
	@tests/part faults tests/faults

deny:
	@tests/part deny tests/deny

# make            the library, target/release/libpush.so
# make demo       the demo page at http://127.0.0.1:8080/ (PORT= changes it); demo-go, a chat in Go; demo-nginx, the page
#                 behind nginx
# make test       every test; installs what it needs, and says so. Its parts: test-rust, test-c, test-python, test-clients,
#                 test-browser, test-autobahn, test-faults, test-go, test-nginx, deny
# make test-stress  most of that on a machine that is slow in three ways; before a release
# make install    PREFIX=/usr/local DESTDIR=; make uninstall
# make header     updates include/push.h and push.cdef.h after a change of src/ffi
# make docs       updates the README's table of options after a change of src/config/options/
# make fuzz       the fuzzers; make soak, a long life: SECONDS=; more in tests/proof.mk
# make bench      libpush beside its peers; make bench-quick while working

PORT ?= 8080
export PORT
LIBRARY = target/release/libpush.so
# Where the tests install to, and build the examples against: as a user would.
STAGE = $(CURDIR)/target/stage
RUST = cargo:none

all: library

include install.mk
-include benches/bench.mk
-include examples-go/go.mk
include tests/proof.mk
-include examples-c/nginx/nginx.mk

library:
	@tests/need $(RUST) cc:build-essential
	cargo build --release

header:
	@tests/need $(RUST)
	PUSH_WRITE_HEADER=1 cargo test --quiet --test header

docs:
	@tests/need $(RUST)
	PUSH_WRITE_DOCS=1 cargo test --quiet --test readme options

# The library installed, and the examples built against it through pkg-config.
examples: library
	@tests/need pkg-config:pkg-config
	@$(MAKE) --no-print-directory -s install PREFIX=$(STAGE) >/dev/null
	@PKG_CONFIG_PATH=$(STAGE)/lib/pkgconfig $(MAKE) --no-print-directory -C examples-c LDFLAGS=-Wl,-rpath,$(STAGE)/lib

demo: examples
	target/examples-c/legacy-server -p $(PORT)

# Each part says how many passed and failed, and ends the run when one failed.
test: test-rust test-c test-python test-clients test-browser test-autobahn test-faults deny
	@echo 'make test: all parts passed'

test-rust: library
	@tests/need python3:python3 prlimit:util-linux
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --quiet
	cargo test
	tests/loom/run
	tests/miri

test-c: examples
	tests/c/run

test-python: examples
	tests/python/run

test-clients: examples
	tests/clients/run

test-browser: examples
	tests/browser/run

test-autobahn: examples
	tests/autobahn/run

.PHONY: all library header docs examples demo test test-rust test-c test-python test-clients test-browser test-autobahn

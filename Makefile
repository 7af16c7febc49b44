# make               builds the library, target/release/libpush.so, and the programs pushd and pushctl
# make MINIMAL=1     the same without TLS on the library's listeners, the engines redis and nats, the console, and the
#                    export of spans: a smaller library, with fewer dependencies (docs/building.md)
# make install       installs them: PREFIX=/usr/local DESTDIR=; make uninstall removes them
# make demo          serves the demo page at http://127.0.0.1:8080/ (PORT= changes it)
# make demo-tls      serves the demo page at https://localhost:8080/, and its subscribers over TLS as well
# make demo-go       serves a chat in Go there; make demo-nginx, the demo page behind nginx; make demo-cluster, the demo
#                    page at three ports, of three hubs that share a log in one Redis
# make examples      installs the library in target/stage, and builds the examples in C against it; make nginx-module,
#                    the module for nginx
#
# make test          runs every test, installs the tools that it needs, and names them. Its parts: test-rust, test-c,
#                    test-minimal, test-python, test-clients, test-browser, test-autobahn, test-faults, test-go,
#                    test-nginx, deny. Three run at once (JOBS=). CONTRIBUTING.md says how to run the tests of one
#                    part in seconds
# make test-stress   runs most of that on a machine that is slow in three ways; before a release
# make loom tsan     the mailbox under loom (a part of test-rust), and the C hosts under the thread sanitizer
# make test-ktls     TLS in the kernel, in a virtual machine with Debian's kernel
# make test-cluster  hubs over real Redis and NATS servers that fail, with the counts of docs/engines.md
# make fuzz          runs the fuzzers; make soak, a long life; SECONDS= sets the time of both; make abuse, thousands of
#                    hostile clients
# make bench         measures libpush beside its peers; make bench-quick is for use while working; make bench-go, the
#                    package for Go; make bench-test, the tests of the load generator
#
# make header        updates include/push.h and push.cdef.h after a change of src/ffi
# make docs          updates the README's table of options after a change of src/config/options/

PORT ?= 8080
export PORT
LIBRARY = target/release/libpush.so
# The tests install the library here and build the examples against it, as a user would.
STAGE = $(CURDIR)/target/stage
RUST = cargo:none
MINIMAL ?=
# With "s", aws-lc-sys leaves out the large tables of its curves.
SMALL = --no-default-features --config 'profile.release.package.aws-lc-sys.opt-level="s"'
FEATURES = $(if $(filter-out 0,$(MINIMAL)),$(SMALL))

all: library

include install.mk
-include benches/bench.mk
-include examples-go/go.mk
include tests/proof.mk
-include examples-c/nginx/nginx.mk

library:
	@tests/need $(RUST) cc:build-essential
	cargo build --release $(FEATURES)

header:
	@tests/need $(RUST)
	PUSH_WRITE_HEADER=1 cargo test --quiet --test header

docs:
	@tests/need $(RUST)
	PUSH_WRITE_DOCS=1 cargo test --quiet --test readme options

# Installs the library, and builds the examples against it through pkg-config.
examples: library
	@tests/need pkg-config:pkg-config
	@$(MAKE) --no-print-directory -s install PREFIX=$(STAGE) >/dev/null
	@PKG_CONFIG_PATH=$(STAGE)/lib/pkgconfig $(MAKE) --no-print-directory -C examples-c LDFLAGS=-Wl,-rpath,$(STAGE)/lib

demo: examples
	target/examples-c/legacy-server -p $(PORT)

demo-cluster: examples
	@tests/need redis-server:redis-server
	@examples-c/demo-cluster $(PORT)

demo-tls: examples
	@tests/need python3:python3 openssl:openssl
	examples-c/demo-tls $(PORT)

# Several parts run at once; JOBS= says how many. A failed part does not end the others.
test:
	@tests/all $(MAKE)

# The parts that take longest come first.
test-parts: test-rust test-nginx test-clients test-c test-browser test-go test-python test-faults test-minimal \
		test-autobahn deny

test-rust: library
	@tests/part rust tests/rust/run

test-minimal:
	@tests/part minimal tests/rust/run minimal

test-c: examples
	@tests/part c tests/c/run

test-python: examples
	@tests/part python tests/python/run

test-clients: examples
	@tests/part clients tests/clients/run

test-browser: examples
	@tests/part browser tests/browser/run

test-autobahn: examples
	@tests/part autobahn tests/autobahn/run

.PHONY: all library header docs examples demo demo-tls demo-cluster
.PHONY: test test-parts test-rust test-minimal test-c test-python test-clients test-browser test-autobahn

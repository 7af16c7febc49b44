# Benchmarks that compare libpush with its peers. The Makefile includes this. benches/README.md explains the method.
#
#   make bench          everything, five rounds: about an hour; writes target/bench/report.md
#   make bench-quick    libpush and the floor, short loads, under two minutes
#   make bench-console  what the console costs the hub; longest tasks of the page
#   make bench-listing  what listing 19,000 connections costs the publishers, and the hub's memory
#   BENCH_ARGS='--only ws,sse --rounds 7' make bench

BENCH_OUT := target/bench
BENCH_BIN := $(BENCH_OUT)/bin
BENCH_LIB := $(BENCH_OUT)/lib
BENCH_CFLAGS ?= -std=c11 -O2 -Wall -Wextra -Wpedantic -Werror
BENCH_ARGS ?=

BENCH_LOAD := benches/load
BENCH_HEADERS := $(wildcard $(BENCH_LOAD)/*.h)
BENCH_PUSHLOAD := $(addprefix $(BENCH_LOAD)/,pushload.c options.c marker.c procstat.c tally.c swarm.c http.c \
	long_poll.c needle.c publisher.c secure.c storm.c handshakes.c)
BENCH_PUBLISH := $(addprefix $(BENCH_LOAD)/,publish.c publish_waking.c publish_channels.c publish_start.c publish_attached.c procstat.c)
BENCH_PROGRAMS := $(addprefix $(BENCH_BIN)/,pushload floor own-listener adopting publish engine \
	patterns shared-log bare-redis stamps tls-floor)

.PHONY: bench bench-nginx bench-console bench-listing bench-quick bench-programs bench-peers bench-tools bench-test

# The Makefile has `examples`, the C server in which libpush is measured, and `library`.
bench: examples bench-programs bench-peers bench-nginx
	@tests/need redis-server:redis-server redis-cli:redis-tools
	@tests/harness/install python
	python3 benches/run.py $(BENCH_ARGS)

bench-quick: examples bench-programs bench-peers
	python3 benches/run.py --quick $(BENCH_ARGS)

# What the console costs the hub, and the page: the hub on CPU 0, everything else on CPU 1.
bench-console: library
	@tests/need /usr/bin/chromium:chromium taskset:util-linux
	@tests/harness/install node
	ROUNDS='$(ROUNDS)' SECONDS='$(SECONDS)' node benches/console.mjs

# What an operator's lists cost the publishers: the hub on CPU 0, everything else on CPU 1.
bench-listing: library
	@tests/need node:nodejs taskset:util-linux
	ROUNDS='$(ROUNDS)' SECONDS='$(SECONDS)' node benches/listing.mjs

# If the module can't be built, the measurements in nginx are left out, and the rest is measured.
bench-nginx:
	-@$(MAKE) --no-print-directory nginx-module

bench-programs: bench-tools $(BENCH_PROGRAMS)

# A peer may need more tools (go, apt-get). If they are missing, that peer is absent, and nothing else fails.
bench-tools:
	@tests/need cc:build-essential python3:python3 strip:binutils openssl:openssl \
		/usr/include/openssl/ssl.h:libssl-dev
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "error: the benchmarks need Python 3.10 or newer" >&2; exit 1; }

# Tests the harness: the load generator must find lost, doubled and disordered messages, and the report must show them.
bench-test: bench-tools $(BENCH_BIN)/pushload
	python3 -m unittest discover -s benches/tests

# Prints what it fetches. Nothing is installed outside of target/bench, except for nginx's empty directory
# /var/lib/nginx.
bench-peers: bench-tools
	@echo "bench: peers, below $(BENCH_OUT)"
	@python3 benches/run.py --set-up

$(BENCH_BIN) $(BENCH_LIB):
	mkdir -p $@

$(BENCH_BIN)/pushload: $(BENCH_PUSHLOAD) $(BENCH_HEADERS) | $(BENCH_BIN)
	$(CC) $(BENCH_CFLAGS) -o $@ $(BENCH_PUSHLOAD) -lssl -lcrypto

$(BENCH_BIN)/floor: $(BENCH_LOAD)/floor.c $(BENCH_HEADERS) | $(BENCH_BIN)
	$(CC) $(BENCH_CFLAGS) -o $@ $<

# The file name that programs linked with the library look for. `library` is phony, so it is an order-only dependency.
$(BENCH_LIB)/libpush.so.0: | library $(BENCH_LIB)
	ln -sf $(CURDIR)/target/release/libpush.so $@

BENCH_LINK = -L$(BENCH_LIB) -l:libpush.so.0 -Wl,-rpath,'$$ORIGIN/../lib' -pthread

BENCH_LINKED := $(BENCH_HEADERS) include/push.h $(BENCH_LIB)/libpush.so.0

$(BENCH_BIN)/bare-redis: $(BENCH_LOAD)/bare-redis.c $(BENCH_LOAD)/resp.c $(BENCH_HEADERS) | $(BENCH_BIN)
	$(CC) $(BENCH_CFLAGS) -o $@ $(filter %.c,$^)

$(BENCH_BIN)/stamps: $(BENCH_LOAD)/stamps.c $(BENCH_HEADERS) | $(BENCH_BIN)
	$(CC) $(BENCH_CFLAGS) -o $@ $<

$(BENCH_BIN)/own-listener $(BENCH_BIN)/adopting $(BENCH_BIN)/shared-log: $(BENCH_BIN)/%: $(BENCH_LOAD)/%.c $(BENCH_LOAD)/host.c $(BENCH_LINKED) | library $(BENCH_BIN)
	$(CC) $(BENCH_CFLAGS) -Iinclude -o $@ $(filter %.c,$^) $(BENCH_LINK)

# Cargo alone knows whether it is up to date, so it is asked each time. It names pushd as well, in no order.
$(BENCH_BIN)/engine $(BENCH_BIN)/patterns $(BENCH_BIN)/tls-floor: library | $(BENCH_BIN)
	cp "$$(cargo bench --quiet --no-run --bench $(@F) --message-format=json \
		| sed -n '/"kind":\["bench"\]/s/.*"executable":"\([^"]*\)".*/\1/p')" $@

$(BENCH_BIN)/publish: $(BENCH_PUBLISH) $(BENCH_LINKED) | library $(BENCH_BIN)
	$(CC) $(BENCH_CFLAGS) -Iinclude -o $@ $(BENCH_PUBLISH) $(BENCH_LINK)

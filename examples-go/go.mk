# Go: the package push, its programs and its tests. Included by the Makefile.
#
#   make demo-go    builds all of it and serves the chat at http://127.0.0.1:8080/ (PORT= changes it)
#   make test-go    go vet, and go test with and without the race detector; part of `make test`
#   make bench-go   what push costs from Go, beside melody and net/http: target/bench/go.md; part of `make bench`

GO_DIR := examples-go
GO_OUT := target/examples-go
# Go finds the installed tree through pkg-config, as in a user's build. Go does not notice that an installed header has
# changed, but it notices flags. So the header's sum is a flag.
GO_HEADER_SUM = $$(cksum < $(STAGE)/include/push.h | cut -d ' ' -f 1)
GO_ENV = CGO_ENABLED=1 PKG_CONFIG_PATH=$(STAGE)/lib/pkgconfig CGO_LDFLAGS=-Wl,-rpath,$(STAGE)/lib \
	CGO_CFLAGS="-O2 -g -DPUSH_HEADER_SUM=$(GO_HEADER_SUM)"
GO_RUN = cd $(GO_DIR) && $(GO_ENV)
GO_BENCH_ARGS ?=

.PHONY: demo-go test-go bench-go go-set-up

# This does not install the Go command itself. It fetches missing modules from the module proxy.
go-set-up: examples
	@tests/need go:none cc:build-essential pkg-config:pkg-config
	@cd $(GO_DIR) && { GOPROXY=off GOFLAGS=-mod=readonly go mod download >/dev/null 2>&1 \
		|| { echo 'set-up: fetching the Go modules that examples-go/go.mod names'; go mod download; }; }

demo-go: go-set-up
	@mkdir -p $(GO_OUT)
	$(GO_RUN) go build ./...
	$(GO_RUN) go build -o $(abspath $(GO_OUT))/ ./cmd/...
	$(GO_OUT)/chat -listen 127.0.0.1:$(PORT)

# The packages run one at a time: they count descriptors, and there may be only two cores.
test-go: go-set-up
	@$(GO_ENV) CC='$(CC)' tests/part go tests/go/run

bench-go: go-set-up bench-programs
	@tests/need taskset:util-linux
	$(GO_RUN) go run ./bench $(GO_BENCH_ARGS) -pushload $(abspath $(BENCH_BIN))/pushload \
		-c-host $(abspath target/examples-c)/legacy-server -out $(abspath $(BENCH_OUT))/go.md

bench: bench-go

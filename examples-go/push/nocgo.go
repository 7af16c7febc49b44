//go:build !cgo

package push

// Without cgo all other files of the package are left out, so that this is the compiler's only error.
var _ int = "the package push needs cgo: build with CGO_ENABLED=1, a C compiler, and libpush where pkg-config finds it"

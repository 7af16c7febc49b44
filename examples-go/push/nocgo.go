//go:build !cgo

package push

// All other files of the package are left out then, so that this is the only thing that the compiler says.
var _ int = "the package push needs cgo: build with CGO_ENABLED=1, a C compiler, and libpush where pkg-config finds it"

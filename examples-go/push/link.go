package push

// pkg-config finds the installed library. The build tag libpush_checkout is for a checkout that is not installed: it
// takes the library that `make examples` installs in target/stage.

// #cgo !libpush_checkout pkg-config: libpush
// #cgo libpush_checkout CFLAGS: -I${SRCDIR}/../../target/stage/include
// #cgo libpush_checkout LDFLAGS: -L${SRCDIR}/../../target/stage/lib -lpush -Wl,-rpath,${SRCDIR}/../../target/stage/lib
import "C"

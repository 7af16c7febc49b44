package push

// The installed library is found through pkg-config. For a checkout that is not installed there is the build tag
// libpush_checkout, which takes what `make examples` leaves in target/stage.

// #cgo !libpush_checkout pkg-config: libpush
// #cgo libpush_checkout CFLAGS: -I${SRCDIR}/../../target/stage/include
// #cgo libpush_checkout LDFLAGS: -L${SRCDIR}/../../target/stage/lib -lpush -Wl,-rpath,${SRCDIR}/../../target/stage/lib
import "C"

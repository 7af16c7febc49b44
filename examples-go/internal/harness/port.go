package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"testing"
)

// FreeAddress is an address with a port that is free at this moment. It is not one of those that the system gives to
// clients: some client could have it while a test's server is away. TEST_PORTS=FIRST-LAST chooses others.
func FreeAddress(t testing.TB) string {
	t.Helper()
	first, last := 10000, 31999
	if chosen := os.Getenv("TEST_PORTS"); chosen != "" {
		if n, err := fmt.Sscanf(chosen, "%d-%d", &first, &last); n != 2 || err != nil || last < first {
			t.Fatalf("TEST_PORTS is FIRST-LAST, not %q", chosen)
		}
	}
	for range 10_000 {
		address := fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(last-first+1))
		if listener, err := net.Listen("tcp", address); err == nil {
			listener.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

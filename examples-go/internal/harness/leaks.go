// Package harness is shared by the tests. It counts leaks, and runs programs, clients and a browser.
package harness

import (
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
)

// Patience is how long to wait for something that must come. It is long, as the machine may be busy.
const Patience = 2 * time.Minute

// CheckLeaks fails the test if it ends with more goroutines or descriptors than it begins with. Call it first, so that
// it checks after all other clean-ups.
func CheckLeaks(t *testing.T) {
	t.Helper()
	// Descriptors that the runtime opens once for itself are no leak.
	Descriptors(t)
	goroutines, descriptors := runtime.NumGoroutine(), Descriptors(t)
	t.Cleanup(func() {
		var g, d int
		for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			http.DefaultClient.CloseIdleConnections()
			runtime.GC() // connections that a client forgot
			g, d = runtime.NumGoroutine(), Descriptors(t)
			if g <= goroutines && d <= descriptors {
				return
			}
		}
		var stacks strings.Builder
		_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
		t.Errorf("left behind: goroutines %d -> %d, descriptors %d -> %d\n%s", goroutines, g, descriptors, d, stacks.String())
	})
}

// Descriptors returns how many descriptors this process has.
func Descriptors(t testing.TB) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// Wait waits until a condition holds.
func Wait(t testing.TB, what string, holds func() bool) {
	t.Helper()
	WaitFor(t, Patience, what, holds)
}

// WaitFor waits until a condition holds.
func WaitFor(t testing.TB, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("did not come true within %s: %s", limit, what)
		}
	}
}

//go:build race

package harness

// Race says that the tests run under the race detector. The programs that they start do, too.
const Race = true

var buildFlags = []string{"-race"}

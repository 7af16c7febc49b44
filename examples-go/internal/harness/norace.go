//go:build !race

package harness

// Race says that the tests run under the race detector.
const Race = false

var buildFlags []string

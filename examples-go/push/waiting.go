//go:build cgo

package push

import "sync/atomic"

// waitingAtOnce is how many calls of the process may be in C at once if they may wait for a hub or for a log. Each holds
// a thread of the operating system, and Go ends a process that has 10,000. Only tests change it.
var waitingAtOnce atomic.Int64

func init() { waitingAtOnce.Store(1000) }

// waiting counts the calls that are under way.
var waiting atomic.Int64

// beginWait allows a call that may wait, which ends with endWait. False: there are too many. The call is ErrBusy then.
func beginWait() bool {
	if waiting.Add(1) > waitingAtOnce.Load() {
		waiting.Add(-1)
		return false
	}
	return true
}

func endWait() {
	waiting.Add(-1)
}

package push

import (
	"io"
	"time"
)

// Kept are the servers that work although nothing refers to them.
func Kept() []*Server {
	var all []*Server
	kept.Range(func(_, srv any) bool {
		all = append(all, srv.(*Server))
		return true
	})
	return all
}

// StatsSize is the size of the library's counters.
const StatsSize = statsSize

// SetUsersAtOnce makes AllUsers ask for fewer users, until the returned function is called.
func SetUsersAtOnce(count int) (restore func()) {
	before := usersAtOnce
	usersAtOnce = count
	return func() { usersAtOnce = before }
}

// SetWriteLimit gives clients that read nothing less time, until the returned function is called.
func SetWriteLimit(limit time.Duration) (restore func()) {
	before := writeLimit
	writeLimit = limit
	return func() { writeLimit = before }
}

// SetWaitingAtOnce lets fewer calls wait at once, until the returned function is called.
func SetWaitingAtOnce(count int64) (restore func()) {
	before := waitingAtOnce.Swap(count)
	return func() { waitingAtOnce.Store(before) }
}

// SetDefaultDrain makes a Stop without a deadline take longer, until the returned function is called.
func SetDefaultDrain(drain time.Duration) (restore func()) {
	before := defaultDrain
	defaultDrain = drain
	return func() { defaultDrain = before }
}

// Resume makes a subscription go on as if the library had ended its connection.
func (sub *Subscription) Resume() error {
	return sub.resume(io.EOF)
}

package push

import "time"

// Kept are the servers that nobody need refer to.
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

// SetUsersAtOnce has AllUsers ask for less, until the answer is called.
func SetUsersAtOnce(count int) (restore func()) {
	before := usersAtOnce
	usersAtOnce = count
	return func() { usersAtOnce = before }
}

// SetWriteLimit gives clients that take nothing less time, until the answer is called.
func SetWriteLimit(limit time.Duration) (restore func()) {
	before := writeLimit
	writeLimit = limit
	return func() { writeLimit = before }
}

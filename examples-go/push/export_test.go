package push

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

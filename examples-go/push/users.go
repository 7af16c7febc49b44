//go:build cgo

package push

import "iter"

// User is one of a channel's users.
type User struct {
	// Name is who it is, as granted.
	Name string
	// Connections is how many connections this user has on the channel.
	Connections int
}

// Users are some of a channel's users, and how many it has.
type Users struct {
	// Page are users by name, in the order of its bytes.
	Page []User
	// Next is what [Server.Users] is given as after, to get those that follow. Empty: none do.
	Next string
	// Count is how many users the channel has.
	Count int
	// Connections is how many connections are on the channel.
	Connections int
	// Anonymous is how many of these have no user.
	Anonymous int
}

// Users tells who is on a channel: how many, and a page of its users by name. The page begins after the name after (empty:
// with the first user) and has at most limit users (up to 10000; with 0 there are only the counts). [Server.AllUsers] asks
// for one page after the other.
//
// A client that is still being sent what it missed, or is between two polls, is not counted. Subscriptions of
// [Server.Subscribe] are, as one user for each server, whose name begins with "go:". A channel that nobody is on is no
// error: its counts are 0. Attached to a hub, all clients of the hub are counted, whichever host handed them over.
//
// Each page counts the whole channel, so take large pages of a large channel.
//
// Errors: [ErrInvalid] if a name or the limit is not allowed; [ErrClosed]; attached, [ErrBusy] if the hub is away,
// [ErrTimeout] if it does not answer, [ErrUnsupported] if it is older than this call.
func (s *Server) Users(channel, after string, limit int) (Users, error) {
	if err := checkName("users", "channel", channel); err != nil {
		return Users{}, err
	}
	if err := checkName("users", "after", after); err != nil {
		return Users{}, err
	}
	if limit < 0 {
		return Users{}, invalid("users", "limit: 0 to 10000 are allowed")
	}
	users, status := s.handle.users(channel, after, limit)
	return users, result("users", status)
}

// usersAtOnce is how many AllUsers asks for.
var usersAtOnce = maxUsers

// AllUsers iterates over the users of a channel, by name, and asks for them in pages. A user who comes or goes meanwhile may
// be missing; one who stays is listed once. After an error, which is one of [Server.Users], the iteration ends.
func (s *Server) AllUsers(channel string) iter.Seq2[User, error] {
	return func(yield func(User, error) bool) {
		for after, more := "", true; more; more = after != "" {
			users, err := s.Users(channel, after, usersAtOnce)
			if err != nil {
				yield(User{}, err)
				return
			}
			for _, user := range users.Page {
				if !yield(user, nil) {
					return
				}
			}
			after = users.Next
		}
	}
}

//go:build cgo

package push

import "iter"

// User is one of a channel's users.
type User struct {
	// Name is the user's name, as granted.
	Name string
	// Connections is how many connections this user has on the channel.
	Connections int
}

// Users is a page of a channel's users, with the number of all.
type Users struct {
	// Page are users by name, in the order of its bytes.
	Page []User
	// Next is the argument after of [Server.Users] for the next page. Empty: there is none.
	Next string
	// Count is how many users the channel has.
	Count int
	// Connections is how many connections are on the channel.
	Connections int
	// Anonymous is how many of these have no user.
	Anonymous int
	// Hubs says which hubs the page and the counts are of, if the server's hub shares a log with others (option
	// engine). It is nil if it does not.
	Hubs *AnsweringHubs
}

// AnsweringHubs says which hubs of a log have answered a question to all of them.
type AnsweringHubs struct {
	// Asked is how many hubs were to answer, and Answered how many have done so in time.
	Asked, Answered int
	// Missing are the names of those that have not, as GET /v1/hubs has them.
	Missing []string
	// Partial is empty if the answer is of all hubs that follow the log. Otherwise it says why it may not be.
	Partial string
}

// Users tells who is on a channel: how many, and a page of its users by name. The page begins after the name after
// (empty: with the first user) and has at most limit users (up to 10000; with 0 there are only the counts).
// [Server.AllUsers] asks for one page after the other.
//
// A client is not counted while it is still being sent what it missed, or between two polls. Subscriptions of
// [Server.Subscribe] are counted, as one user for each server, with a name that begins with "go:". A channel without
// clients is no error: its counts are 0. If the server is attached to a hub, all clients of the hub are counted,
// whichever host handed them over.
//
// If the hub shares a log with others, all hubs are asked, and a user of several hubs is one. If one has not answered
// within a quarter of the option engine_timeout, at most two seconds, [Users.Hubs] says so, and the rest is of the others.
// A page may then have fewer than limit users although there are more: Next says so.
//
// Each page counts the whole channel, so take large pages of a large channel.
//
// Errors: [ErrInvalid] if a name or the limit is not allowed; [ErrClosed]; [ErrBusy] if 1,000 calls of this process wait
// already for a hub or a log; with a log, [ErrBusy] if too many of these questions are under way, or if no hub at all has
// answered in time; attached, [ErrBusy] if the hub can't be reached, or if 16 calls of this process are under way there
// and the turn of this one did not come, [ErrTimeout] if it does not answer, [ErrUnsupported] if it is older than this
// call.
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
	if !beginWait() {
		return Users{}, result("users", ErrBusy)
	}
	defer endWait()
	users, status := s.handle.users(channel, after, limit)
	return users, result("users", status)
}

// usersAtOnce is how many users AllUsers asks for at once.
var usersAtOnce = maxUsers

// AllUsers iterates over the users of a channel, by name, and asks for them in pages. A user who comes or goes
// meanwhile may be missing. A user who stays is listed once. After an error, which is one of [Server.Users], the
// iteration ends. Users of hubs that do not answer in time are missing; [Server.Users] says whether there are such hubs.
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

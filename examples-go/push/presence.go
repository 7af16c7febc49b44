//go:build cgo

package push

// Presence says who is on a channel, or that somebody has come or gone. A user counts once, with any number of
// connections, and stays for the option presence_grace after the last one has ended. Clients without a user do not
// count.
type Presence struct {
	// Users are all who are there, in the order of the bytes of their names. They take the place of all that was known.
	// It is nil if only a number is told, because there are more than the option presence_detail, and with Join and Leave.
	Users []Member
	// Join is a user who has come, or a user of whom something else is told now.
	Join *Member
	// Leave is a user who has gone.
	Leave *Member
	// Count is how many users are there now.
	Count int
	// Off says that the channel has no presence: the option channel.PATTERN.presence is not on for it. If a reload turns
	// it on, Users come.
	Off bool
}

// Member is a user on a channel.
type Member struct {
	// User is the user's name, as granted.
	User string `json:"user"`
	// Info is what the grant or token says of the user, or empty.
	Info string `json:"info"`
}

// presenceObject has what is in the lines of the stream about presence.
type presenceObject struct {
	Member          // of a join and a leave
	Users  []Member `json:"users"`
	Count  int      `json:"count"`
	Off    bool     `json:"off"`
}

func (o *presenceObject) presence(kind string) *Presence {
	told := &Presence{Users: o.Users, Count: o.Count, Off: o.Off}
	member := o.Member
	switch kind {
	case "join":
		told.Join = &member
	case "leave":
		told.Leave = &member
	}
	return told
}

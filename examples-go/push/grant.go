package push

import (
	"net/http"
	"strings"
	"time"
)

// Grant is what a client may do: the answer of the service's own login. The zero Grant allows nothing.
type Grant struct {
	// User is who the client is, or empty. Events name it, and [Server.Disconnect] finds it. At most 255 bytes.
	User string

	// Channels are the channels that the client may ask for: names, or prefixes ending in "*". "*" alone is every
	// channel. At most 1,000.
	Channels []string

	// Subscribe, if it is not empty, has the channels that the client gets at once, whatever its URL asks for. It may
	// have these in addition to Channels. So a URL like /rooms/7/live can decide by itself what it is about. They go to
	// the library as a URL does: the options max_channels (100) and max_head (16 KB with all that is escaped) bound
	// them, and beyond that the client gets 400 or 414.
	Subscribe []string

	// Expires ends the grant: the connection is then closed with 4403. Zero: never. In whole seconds.
	Expires time.Time

	// Publish lets the client publish to the channels it may have (subprotocol push.v1.json), past the service.
	Publish bool

	// KeepAlive lets a connection that was handed over stay open for further long-polls, under this grant and without
	// asking authorize again. Only where one connection is one client, not behind a proxy that mixes clients; and only
	// where Handler is mounted at the option path.
	KeepAlive bool
}

// Anyone is an authorize for what everybody may read: it grants every channel to everybody.
func Anyone(*http.Request) (Grant, error) {
	return Grant{Channels: []string{"*"}}, nil
}

// nobody is a grant that has ended: all that a client gets for it is what needs no grant.
var nobody = Grant{Channels: []string{"*"}, Expires: time.Unix(1, 0)}

// names are user and channels as C reads them.
func (g *Grant) names() (text string, channels int, err error) {
	var all strings.Builder
	add := func(what, name string) {
		if failed := checkName("grant", what, name); failed != nil && err == nil {
			err = failed
		}
		all.WriteString(name)
		all.WriteByte(0)
	}
	add("user", g.User)
	for _, list := range [][]string{g.Channels, g.Subscribe} {
		for _, name := range list {
			// An empty name is no channel, and comes about by mistake.
			if name == "" && err == nil {
				err = invalid("grant", "channel: empty; 1 to 255 bytes are allowed")
			}
			add("channel", name)
			channels++
		}
	}
	if channels == 0 && err == nil {
		err = invalid("grant", "no channels")
	}
	return all.String(), channels, err
}

func (g *Grant) flags() uint32 {
	var flags uint32
	if g.Publish {
		flags |= grantPublish
	}
	if g.KeepAlive {
		flags |= grantKeepAlive
	}
	return flags
}

// expires is never 0 for a grant that ends: 0 is for ever.
func (g *Grant) expires() int64 {
	if g.Expires.IsZero() {
		return 0
	}
	return max(1, g.Expires.Unix())
}

// adopt hands over a descriptor, or with duplicate a copy of it, with what was read from it. While the library has no
// room it is asked again, for a moment.
func (s *Server) adopt(fd uintptr, duplicate bool, head []byte, g *Grant) error {
	names, channels, err := g.names()
	if err != nil {
		return err
	}
	for wait, waited := pauseFirst, time.Duration(0); ; wait = min(2*wait, pauseLongest) {
		status := s.handle.adopt(fd, duplicate, head, names, channels, g.expires(), g.flags())
		if status != ErrBusy || waited > longestAdopt {
			return result("hand over", status)
		}
		time.Sleep(wait)
		waited += wait
	}
}

// longestAdopt is how long a client may wait for room in a thread's queue.
const longestAdopt = time.Second

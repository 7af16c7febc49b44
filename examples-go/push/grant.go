//go:build cgo

package push

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Grant is what a client may do: the answer of the service's own login. The zero Grant allows nothing.
type Grant struct {
	// User is who the client is, or empty. Events name it, and [Server.Disconnect] finds it. At most 255 bytes.
	User string

	// Channels are the channels that the client may ask for, by their names. Names only: what a client says may become
	// a part of one, and a name that ends in "*" is refused. At most 1,000 together with Patterns.
	Channels []string

	// Patterns are more channels that the client may ask for: prefixes ending in "*", or names. "*" alone is every
	// channel. Never make one from what a client says.
	Patterns []string

	// Subscribe, if it is not empty, has the channels that the client gets at once, whatever its URL asks for. It may
	// have these in addition to Channels. So a URL like /rooms/7/live can decide by itself what it is about: these are
	// names, as in Channels, so /rooms/*/live gets 403 and not all rooms. They go to the library as a URL does: the
	// options max_channels (100) and max_head (16 KB with all that is escaped) bound them, and beyond that the client
	// gets 400 or 414.
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
	return Grant{Patterns: []string{"*"}}, nil
}

// nobody is a grant that has ended: all that a client gets for it is what needs no grant.
var nobody = Grant{Patterns: []string{"*"}, Expires: time.Unix(1, 0)}

// empty says that nothing is granted.
func (g *Grant) empty() bool {
	return len(g.Channels) == 0 && len(g.Patterns) == 0 && len(g.Subscribe) == 0
}

// granted is a grant as C reads it.
type granted struct {
	names              string // user, channels and patterns, each ending in NUL
	channels, patterns int
	expires            int64
	flags              uint32
}

// forC checks what the library can't, or has no words for: it answers with a status.
func (g *Grant) forC() (granted, error) {
	if g.empty() {
		return granted{}, invalid("grant", "no channels")
	}
	if err := checkName("grant", "user", g.User); err != nil {
		return granted{}, err
	}
	var all strings.Builder
	all.WriteString(g.User)
	all.WriteByte(0)
	for _, list := range [][]string{g.Channels, g.Subscribe} {
		for _, name := range list {
			if strings.HasSuffix(name, "*") {
				return granted{}, invalid("grant", fmt.Sprintf("channel %q: a name can't end in *; Patterns may", name))
			}
		}
	}
	for _, list := range [][]string{g.Channels, g.Subscribe, g.Patterns} {
		for _, name := range list {
			// An empty name is no channel, and comes about by mistake.
			if name == "" {
				return granted{}, invalid("grant", "channel: empty; 1 to 255 bytes are allowed")
			}
			if err := checkName("grant", "channel", name); err != nil {
				return granted{}, err
			}
			all.WriteString(name)
			all.WriteByte(0)
		}
	}
	return granted{all.String(), len(g.Channels) + len(g.Subscribe), len(g.Patterns), g.expires(), g.flags()}, nil
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
	may, err := g.forC()
	if err != nil {
		return err
	}
	for wait, waited := pauseFirst, time.Duration(0); ; wait = min(2*wait, pauseLongest) {
		status := s.handle.adopt(fd, duplicate, head, may)
		if status != ErrBusy || waited > longestAdopt {
			return result("hand over", status)
		}
		time.Sleep(wait)
		waited += wait
	}
}

// longestAdopt is how long a client may wait for room in a thread's queue.
const longestAdopt = time.Second

//go:build cgo

package push

import (
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Grant says what a client may do. It is the answer of the service's own login. The zero Grant allows nothing.
type Grant struct {
	// User is the client's user, or empty. Events name it, and [Server.Disconnect] finds it. At most 255 bytes. With the
	// option user_channel the client has this user's channel: see [Server.PublishUser].
	User string

	// Info is what those who follow the presence of a channel are told of User (option channel.PATTERN.presence): a name
	// to show, or JSON in one line. At most 1,024 bytes of UTF-8 without control characters. All of them can read it. If
	// the connections of a user differ in it, that of the one that came last counts. Attached, it needs a hub that knows
	// it: [ErrUnsupported].
	Info string

	// Channels are the names of the channels that the client may ask for. They are never patterns, so a client's text
	// may be a part of one; a name that ends in "*" is refused. At most 1,000 together with Patterns and Subscribe.
	Channels []string

	// Patterns are further channels that the client may ask for: prefixes ending in "*", or names. "*" alone is every
	// channel. Never make one from a client's text.
	Patterns []string

	// Subscribe has the names of the channels that the client gets at once. The channels in its URL are then ignored.
	// If it is empty, the URL names the channels. The client may have these channels in addition to Channels. So a URL
	// like /rooms/7/live can decide which channel it is about. A name can't be a pattern, so /rooms/*/live gets 403 and
	// not all rooms. With more names than the option max_channels (100) the client gets 400. With KeepAlive each further
	// poll gets the same channels.
	Subscribe []string

	// Expires ends the grant: the connection is then closed with 4403. Zero: never. In whole seconds.
	Expires time.Time

	// Publish lets the client publish to the channels it may have (subprotocol push.v1.json), without the service.
	Publish bool

	// PublishChannels are the names of channels to which the client may publish, whether it may have them or not, with and
	// without Publish. Like Channels they are never patterns. At most 1,000 together with PublishPatterns. With Publish
	// the channels that it may have count as well.
	PublishChannels []string

	// PublishPatterns are further channels to which the client may publish: prefixes ending in "*", or names. "*" alone is
	// every channel. Never make one from a client's text.
	PublishPatterns []string

	// KeepAlive lets a connection that was handed over stay open for further long-polls, under this grant and without
	// another call of authorize. Use it only if one connection is one client, so not behind a proxy that mixes clients,
	// and only if Handler is mounted at the option path.
	KeepAlive bool
}

// Anyone is an authorize that grants every channel to everybody.
func Anyone(*http.Request) (Grant, error) {
	return Grant{Patterns: []string{"*"}}, nil
}

// nobody is a grant that has ended: all that a client gets for it is what needs no grant.
var nobody = Grant{Patterns: []string{"*"}, Expires: time.Unix(1, 0)}

// empty says that nothing is granted. A user may have a channel of its own, by the option user_channel.
func (g *Grant) empty() bool {
	return g.User == "" && len(g.Channels)+len(g.Patterns)+len(g.Subscribe)+len(g.PublishChannels)+len(g.PublishPatterns) == 0
}

// granted is a grant as C reads it.
type granted struct {
	names                            string // the user, the info and the channels of each list, each ending in NUL
	subscribe, channels, patterns    int
	publishChannels, publishPatterns int
	expires                          int64
	flags                            uint32
}

// forC checks what the library can't, or has no words for: it answers with a status.
func (g *Grant) forC() (granted, error) {
	if g.empty() {
		return granted{}, invalid("grant", "no channels")
	}
	if err := checkName("grant", "user", g.User); err != nil {
		return granted{}, err
	}
	if err := g.checkInfo(); err != nil {
		return granted{}, err
	}
	var all strings.Builder
	all.WriteString(g.User)
	all.WriteByte(0)
	all.WriteString(g.Info)
	all.WriteByte(0)
	for _, list := range []struct {
		names    []string
		patterns string // the list that may have patterns instead; empty: this one
	}{
		{g.Subscribe, "Patterns"}, {g.Channels, "Patterns"}, {g.Patterns, ""},
		{g.PublishChannels, "PublishPatterns"}, {g.PublishPatterns, ""},
	} {
		for _, name := range list.names {
			if list.patterns != "" && strings.HasSuffix(name, "*") {
				text := fmt.Sprintf("channel %q: a name can't end in *; %s may", name, list.patterns)
				return granted{}, invalid("grant", text)
			}
			// An empty name is no channel, and is mostly a mistake.
			if name == "" {
				return granted{}, invalid("grant", "channel: empty; 1 to 255 bytes are allowed")
			}
			if err := checkName("grant", "channel", name); err != nil {
				return granted{}, err
			}
			if prefix, found := strings.CutSuffix(name, "*"); found && strings.Contains(prefix, "*") {
				return granted{}, invalid("grant", fmt.Sprintf("pattern %q: * may stand at the end only", name))
			}
			all.WriteString(name)
			all.WriteByte(0)
		}
	}
	return granted{
		all.String(), len(g.Subscribe), len(g.Channels), len(g.Patterns), len(g.PublishChannels), len(g.PublishPatterns),
		g.expires(), g.flags(),
	}, nil
}

func (g *Grant) checkInfo() error {
	switch {
	case len(g.Info) > maxInfo:
		return invalid("grant", fmt.Sprintf("info: %d bytes; at most %d are allowed", len(g.Info), maxInfo))
	case !utf8.ValidString(g.Info):
		return invalid("grant", "info: not UTF-8")
	case strings.ContainsFunc(g.Info, unicode.IsControl):
		return invalid("grant", "info: control characters are not allowed, so JSON has to be in one line")
	case g.Info != "" && g.User == "":
		return invalid("grant", "info: it is about a user, and the grant has none")
	}
	return nil
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

// expires is never 0 for a grant that ends, because 0 means for ever.
func (g *Grant) expires() int64 {
	if g.Expires.IsZero() {
		return 0
	}
	return max(1, g.Expires.Unix())
}

// adopt hands over a descriptor, or a duplicate of it, with the bytes that were read from it. If the library has no
// room, it tries again for a moment.
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

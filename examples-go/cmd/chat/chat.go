package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"libpush.example/go/push"
)

const (
	roomPrefix = "room."

	longestText = 2000
	// A client may send this many messages in a row, and then one in each interval.
	burst      = 8
	refillsIn  = 700 * time.Millisecond
	stillHere  = "2s" // a user who reloads the page within this time does not count as gone
	publishing = 5 * time.Second
)

// chat knows whose message comes over which connection. The library keeps and delivers the messages, and tells pages who
// is in a room. All fields but rooms belong to one goroutine, run.
type chat struct {
	srv   *push.Server
	rooms []string

	members map[push.Conn]*member
}

// member is one connection: a user who looks at a room.
type member struct {
	name, room string
	allowance  float64
	spoke      time.Time
}

func newChat(srv *push.Server, rooms []string) *chat {
	return &chat{srv: srv, rooms: rooms, members: map[push.Conn]*member{}}
}

// channels are all channels that a user who is logged in may have.
func (c *chat) channels() []string {
	var all []string
	for _, room := range c.rooms {
		all = append(all, roomPrefix+room)
	}
	return all
}

// run follows the events until the server stops.
func (c *chat) run(events <-chan push.Event) {
	for event := range events {
		switch event.Kind {
		case push.Connected:
			c.connected(event)
		case push.Received:
			c.received(event)
		case push.Disconnected:
			delete(c.members, event.Conn)
		}
	}
}

func (c *chat) connected(event push.Event) {
	room, ok := strings.CutPrefix(event.Channel, roomPrefix)
	if !ok || !slices.Contains(c.rooms, room) {
		return // a client of its own, that is in no room
	}
	c.members[event.Conn] = &member{name: event.User, room: room, allowance: burst, spoke: time.Now()}
}

// said is a message of a client.
type said struct {
	ID   string `json:"id"` // chosen by the client, so that a message that is sent again after a lost connection comes once
	Text string `json:"text"`
}

func (c *chat) received(event push.Event) {
	m, ok := c.members[event.Conn]
	if !ok {
		return
	}
	var what said
	err := json.Unmarshal(event.Data, &what)
	what.Text = strings.TrimSpace(what.Text)
	switch {
	case err != nil || what.ID == "" || len(what.ID) > 64 || event.Binary:
		c.refuse(event.Conn, what.ID, "that was no message")
	case what.Text == "":
		c.refuse(event.Conn, what.ID, "say something")
	case utf8.RuneCountInString(what.Text) > longestText:
		c.refuse(event.Conn, what.ID, "that is too long")
	case !m.mayTalk(time.Now()):
		c.refuse(event.Conn, what.ID, "not so fast")
	default:
		c.publish(push.Message{
			Channel: roomPrefix + m.room,
			Event:   "said",
			Key:     m.name + " " + what.ID,
			Data: encode(map[string]any{
				"id": what.ID, "from": m.name, "text": what.Text, "at": time.Now().UnixMilli(),
			}),
		})
	}
}

// mayTalk keeps one client from flooding a room.
func (m *member) mayTalk(now time.Time) bool {
	m.allowance = min(burst, m.allowance+float64(now.Sub(m.spoke))/float64(refillsIn))
	m.spoke = now
	if m.allowance < 1 {
		return false
	}
	m.allowance--
	return true
}

// refuse answers the client that sent the message.
func (c *chat) refuse(conn push.Conn, id, why string) {
	err := c.srv.Send(conn, encode(map[string]any{"refused": id, "why": why}))
	if err != nil && !errors.Is(err, push.ErrNotFound) && !errors.Is(err, push.ErrClosed) {
		log.Print(err)
	}
}

func (c *chat) publish(m push.Message) {
	ctx, cancel := context.WithTimeout(context.Background(), publishing)
	defer cancel()
	if _, err := c.srv.PublishContext(ctx, m); err != nil && !errors.Is(err, push.ErrClosed) {
		log.Print(err)
	}
}

func encode(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // not possible: maps of strings and numbers
	}
	return text
}

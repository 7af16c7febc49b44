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
	whoPrefix  = "who."

	longestText = 2000
	// A client may send this many messages in a row, and then one in each interval.
	burst      = 8
	refillsIn  = 700 * time.Millisecond
	stillHere  = 2 * time.Second // a user who reloads the page within this time does not count as gone
	publishing = 5 * time.Second
)

// chat knows which users are in which rooms. The library keeps and delivers its messages. All fields but rooms belong
// to one goroutine, run.
type chat struct {
	srv   *push.Server
	rooms []string

	members map[push.Conn]*member
	present map[string]map[string]int // room, name: the number of connections
	left    chan leaving
}

// member is one connection: a user who looks at a room.
type member struct {
	name, room string
	allowance  float64
	spoke      time.Time
}

type leaving struct{ name, room string }

func newChat(srv *push.Server, rooms []string) *chat {
	c := &chat{
		srv: srv, rooms: rooms, members: map[push.Conn]*member{}, present: map[string]map[string]int{},
		left: make(chan leaving),
	}
	for _, room := range rooms {
		c.present[room] = map[string]int{}
	}
	return c
}

// channels are all channels that a user who is logged in may have.
func (c *chat) channels() []string {
	var all []string
	for _, room := range c.rooms {
		all = append(all, roomPrefix+room, whoPrefix+room)
	}
	return all
}

// run follows the events until the server stops.
func (c *chat) run(events <-chan push.Event) {
	for {
		select {
		case event, ok := <-events:
			if !ok {
				return
			}
			c.handle(event)
		case gone := <-c.left:
			c.leave(gone)
		}
	}
}

func (c *chat) handle(event push.Event) {
	switch event.Kind {
	case push.Connected:
		c.connected(event)
	case push.Received:
		c.received(event)
	case push.Disconnected:
		c.disconnected(event.Conn)
	}
}

func (c *chat) connected(event push.Event) {
	room, ok := strings.CutPrefix(event.Channel, roomPrefix)
	if !ok || c.present[room] == nil {
		return // a user who only looks at who is there
	}
	c.members[event.Conn] = &member{name: event.User, room: room, allowance: burst, spoke: time.Now()}
	c.present[room][event.User]++
	if c.present[room][event.User] == 1 {
		c.tellWho(room)
	}
}

func (c *chat) disconnected(conn push.Conn) {
	m, ok := c.members[conn]
	if !ok {
		return
	}
	delete(c.members, conn)
	time.AfterFunc(stillHere, func() {
		select {
		case c.left <- leaving{m.name, m.room}:
		case <-time.After(publishing): // no goroutine receives any more: the server has stopped
		}
	})
}

func (c *chat) leave(gone leaving) {
	here := c.present[gone.room]
	here[gone.name]--
	if here[gone.name] <= 0 {
		delete(here, gone.name)
		c.tellWho(gone.room)
	}
}

// tellWho publishes who is in a room.
func (c *chat) tellWho(room string) {
	names := make([]string, 0, len(c.present[room]))
	for name := range c.present[room] {
		names = append(names, name)
	}
	slices.Sort(names)
	c.publish(push.Message{Channel: whoPrefix + room, Event: "who", Data: encode(map[string]any{"names": names})})
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

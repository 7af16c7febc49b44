package push_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"
	"unsafe"

	"github.com/coder/websocket"

	"libpush.example/go/push"
)

func TestEventsTellWhatClientsDo(t *testing.T) {
	srv := startClean(t, push.Config{})
	events := srv.Events()
	if again := srv.Events(); again != events {
		t.Error("two channels of events")
	}
	service := serve(t, srv.Handler(push.Anyone))
	conn := dial(t, service.URL+"/push?channel=c", nil)
	connected := event(t, events, push.Connected)
	if connected.Channel != "c" || connected.Conn == 0 || connected.User != "" || connected.Data != nil {
		t.Errorf("%+v", connected)
	}
	for _, sent := range []struct {
		kind websocket.MessageType
		data []byte
	}{{websocket.MessageText, []byte("text")}, {websocket.MessageBinary, []byte{0, 1, 0xff}}, {websocket.MessageText, nil}} {
		if err := conn.Write(t.Context(), sent.kind, sent.data); err != nil {
			t.Fatal(err)
		}
		e := event(t, events, push.Received)
		if e.Conn != connected.Conn || !bytes.Equal(e.Data, sent.data) || e.Binary != (sent.kind == websocket.MessageBinary) {
			t.Errorf("%+v", e)
		}
		// This answers one client alone.
		send := srv.Send
		if e.Binary {
			send = srv.SendBinary
		}
		if err := send(e.Conn, e.Data); err != nil {
			t.Fatal(err)
		}
		if kind, data, err := conn.Read(deadline(t)); err != nil || kind != sent.kind || !bytes.Equal(data, sent.data) {
			t.Errorf("%v %q %v", kind, data, err)
		}
	}
	_ = conn.Close(4321, "bye")
	if e := event(t, events, push.Disconnected); e.Conn != connected.Conn || e.Code != 4321 {
		t.Errorf("%+v", e)
	}
	for kind, name := range map[push.EventKind]string{push.Connected: "connected", push.Disconnected: "disconnected", push.Received: "received", push.Draining: "draining", push.Drained: "drained", push.Subscribed: "subscribed", push.Unsubscribed: "unsubscribed", push.Called: "called", push.Publishing: "publishing", 77: "unknown"} {
		if kind.String() != name {
			t.Errorf("%v", kind)
		}
	}
}

// There are more events than fit into one pull, in number and in bytes, while nobody receives. None is lost, and their
// order stays.
func TestEventsWaitForTheirReceiver(t *testing.T) {
	srv := startClean(t, push.Config{Options: map[string]string{"event_queue": "64", "max_client_message": "1MB"}})
	events := srv.Events()
	service := serve(t, srv.Handler(push.Anyone))
	conn := dial(t, service.URL+"/push?channel=c", nil)
	event(t, events, push.Connected)

	const count = 3000
	message := func(i int) []byte {
		size := i % 300
		if i%500 == 0 {
			size = 200_000 // more than the room of a pull
		}
		return append([]byte(fmt.Sprint(i, ":")), bytes.Repeat([]byte("x"), size)...)
	}
	wrote := make(chan error, 1)
	go func() {
		for i := range count {
			if err := conn.Write(deadline(t), websocket.MessageText, message(i)); err != nil {
				wrote <- err
				return
			}
		}
		wrote <- nil
	}()
	time.Sleep(100 * time.Millisecond)
	for i := range count {
		if e := event(t, events, push.Received); !bytes.Equal(e.Data, message(i)) {
			t.Fatalf("%d: %d bytes, %.20q", i, len(e.Data), e.Data)
		}
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	if s := stats(t, srv); s.Received != count || s.EventsDropped != 0 {
		t.Errorf("%+v", s)
	}
}

// The channels of a request, of a live connection, and of its end.
func TestEventsTellTheChannelsOfAConnection(t *testing.T) {
	srv := startClean(t, push.Config{Options: map[string]string{"events": "close,subscribe,unsubscribe"}})
	events := srv.Events()
	service := serve(t, srv.Handler(push.Anyone))
	conn := dial(t, service.URL+"/push?channel=a", &websocket.DialOptions{Subprotocols: []string{"push.v1.json"}})
	first := event(t, events, push.Subscribed)
	if first.Channel != "a" || first.Conn == 0 {
		t.Errorf("%+v", first)
	}
	for _, request := range []string{`{"type":"subscribe","channel":"b"}`, `{"type":"unsubscribe","channel":"a"}`} {
		if err := conn.Write(deadline(t), websocket.MessageText, []byte(request)); err != nil {
			t.Fatal(err)
		}
	}
	for _, expected := range []push.Event{{Kind: push.Subscribed, Channel: "b"}, {Kind: push.Unsubscribed, Channel: "a"}} {
		if e := event(t, events, expected.Kind); e.Channel != expected.Channel || e.Conn != first.Conn {
			t.Errorf("%+v", e)
		}
	}
	_ = conn.CloseNow()
	if e := event(t, events, push.Unsubscribed); e.Channel != "b" || e.Conn != first.Conn {
		t.Errorf("%+v", e)
	}
	event(t, events, push.Disconnected)
}

func TestACallIsAnsweredOrRefused(t *testing.T) {
	srv := startClean(t, push.Config{Options: map[string]string{"events": "call", "call_timeout": "10m"}})
	events := srv.Events()
	service := serve(t, srv.Handler(push.Anyone))
	conn := dial(t, service.URL+"/push", &websocket.DialOptions{Subprotocols: []string{"push.v1.json"}})
	for _, call := range []struct {
		answer func(push.Request) error
		want   string
	}{
		{func(r push.Request) error { return srv.Answer(r, []byte(`{"sum":3}`)) }, `{"type":"answer","data":"{\"sum\":3}","ref":7}`},
		{func(r push.Request) error { return srv.AnswerBinary(r, []byte{0, 255}) }, `{"type":"answer","data":"AP8=","base64":true,"ref":7}`},
		{func(r push.Request) error { return srv.Deny(r, push.ErrForbidden) }, `{"type":"error","code":"refused","message":"not allowed","status":403,"ref":7}`},
	} {
		if err := conn.Write(deadline(t), websocket.MessageText, []byte(`{"type":"call","ref":7,"data":"1+2"}`)); err != nil {
			t.Fatal(err)
		}
		e := event(t, events, push.Called)
		if string(e.Data) != "1+2" || e.Binary || e.Conn == 0 || e.Request == 0 {
			t.Errorf("%+v", e)
		}
		if err := call.answer(e.Request); err != nil {
			t.Fatal(err)
		}
		wantFrame(t, conn, call.want)
	}
	if err := srv.Answer(0, nil); !errors.Is(err, push.ErrNotFound) {
		t.Error(err)
	}
	if err := srv.Answer(1<<8, []byte("\xff")); !errors.Is(err, push.ErrInvalid) {
		t.Error(err)
	}
}

// The host checks what clients publish: it allows a message, replaces it, or refuses it.
func TestAMessageOfAClientIsChecked(t *testing.T) {
	srv := startClean(t, push.Config{Options: map[string]string{
		"events": "publish", "channel.chat.*.client_publish": "host", "call_timeout": "10m",
	}})
	events := srv.Events()
	mayPublish := func(*http.Request) (push.Grant, error) {
		return push.Grant{Patterns: []string{"*"}, Publish: true}, nil
	}
	service := serve(t, srv.Handler(mayPublish))
	reader := dial(t, service.URL+"/push?channel=chat.1", nil)
	conn := dial(t, service.URL+"/push", &websocket.DialOptions{Subprotocols: []string{"push.v1.json"}})
	for _, check := range []struct {
		answer    func(push.Request) error
		published []byte // nil: it is refused
		kind      websocket.MessageType
	}{
		{srv.AllowPublish, []byte("one"), websocket.MessageText},
		{func(r push.Request) error { return srv.AllowPublishInstead(r, push.Message{Data: []byte("two")}) }, []byte("two"), websocket.MessageText},
		{func(r push.Request) error {
			return srv.AllowPublishInstead(r, push.Message{Binary: true, Event: "edited"})
		}, []byte{}, websocket.MessageBinary},
		{func(r push.Request) error { return srv.Deny(r, push.ErrForbidden) }, nil, 0},
	} {
		request := `{"type":"publish","ref":7,"channel":"chat.1","data":"one","event":"said","key":"k` + fmt.Sprint(check.published) + `"}`
		if err := conn.Write(deadline(t), websocket.MessageText, []byte(request)); err != nil {
			t.Fatal(err)
		}
		e := event(t, events, push.Publishing)
		if e.Channel != "chat.1" || string(e.Data) != "one" || e.EventType != "said" || e.Key != fmt.Sprint("k", check.published) || e.Binary || e.Conn == 0 {
			t.Errorf("%+v", e)
		}
		if err := check.answer(e.Request); err != nil {
			t.Fatal(err)
		}
		if check.published == nil {
			wantFrame(t, conn, `{"type":"error","code":"refused","message":"not allowed","channel":"chat.1","status":403,"ref":7}`)
			continue
		}
		if _, answer, err := conn.Read(deadline(t)); err != nil || !bytes.HasPrefix(answer, []byte(`{"type":"published","channel":"chat.1","id":"`)) {
			t.Errorf("%s %v", answer, err)
		}
		if kind, data, err := reader.Read(deadline(t)); err != nil || kind != check.kind || !bytes.Equal(data, check.published) {
			t.Errorf("%v %q %v", kind, data, err)
		}
	}
	if s := stats(t, srv); s.PublishChecks != 4 || s.PublishChecksGivenUp != 0 || s.PublishChecksWaiting != 0 {
		t.Errorf("%+v", s)
	}
	for want, message := range map[error]push.Message{
		push.ErrNotFound: {},
		push.ErrInvalid:  {Channel: "chat.1"},
		push.ErrTooLarge: {Data: make([]byte, 2<<20)},
	} {
		if err := srv.AllowPublishInstead(0, message); !errors.Is(err, want) {
			t.Errorf("%v: %v", want, err)
		}
	}
	for _, message := range []push.Message{{Key: "k"}, {Trace: "t"}, {Except: "e"}, {Event: "push-x"}, {Event: "a\x00"}} {
		if err := srv.AllowPublishInstead(1<<8, message); !errors.Is(err, push.ErrInvalid) {
			t.Errorf("%+v: %v", message, err)
		}
	}
	if err := srv.AllowPublish(0); !errors.Is(err, push.ErrNotFound) {
		t.Error(err)
	}
	// Nobody would be asked.
	if _, err := push.Start(push.Config{Options: map[string]string{"client_publish": "host"}}); !errors.Is(err, push.ErrConfig) {
		t.Error(err)
	}
}

func TestEventsEndWithTheServer(t *testing.T) {
	srv := beginClean(t, push.Config{})
	events := srv.Events()
	service := serve(t, srv.Handler(push.Anyone))
	// There are more events than the channel has room for, and nobody receives.
	for range 20 {
		conn := dial(t, service.URL+"/push?channel=c", nil)
		for range 50 {
			if err := conn.Write(t.Context(), websocket.MessageText, []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		defer conn.CloseNow()
	}
	time.Sleep(50 * time.Millisecond)
	_ = srv.Stop(limited(t, 500*time.Millisecond)) // these clients don't answer a close
	received := 0
	for range events {
		received++
	}
	t.Logf("%d events were left", received)
	if _, open := <-srv.Events(); open {
		t.Error("events after the end")
	}

	late, err := push.Start(push.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := late.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, open := <-late.Events(); open {
		t.Error("events of a server that was stopped")
	}
	<-srv.Events()
}

// The host is asked about a client at a listener of the library's own, with the client's request.
func TestAskedAtOwnListener(t *testing.T) {
	srv := startClean(t, push.Config{
		Listen: []string{"127.0.0.1:0"}, Options: map[string]string{"auth": "host", "auth_timeout": "10m"},
	})
	events := srv.Events()
	go func() {
		for e := range events {
			if e.Kind != push.Asked {
				continue
			}
			request, err := e.HTTP()
			if err != nil {
				t.Error(err)
				return
			}
			if cookie, err := request.Cookie("session"); err == nil && cookie.Value == "good" {
				err = srv.Allow(e.Request, push.Grant{User: "ada", Channels: []string{"news", e.Channel + "x"}})
				if err != nil {
					t.Error(err)
				}
				continue
			}
			if err := srv.Deny(e.Request, push.ErrUnauthorized); err != nil {
				t.Error(err)
			}
		}
	}()
	url := "http://" + srv.Addresses()[0] + "/push?transport=stream&channel="
	for _, test := range []struct {
		channel, cookie string
		status          int
	}{{"news", "session=good", 200}, {"news", "session=bad", 401}, {"news", "", 401}, {"other", "session=good", 403}} {
		response, body := get(t, http.DefaultClient, url+test.channel, http.Header{"Cookie": {test.cookie}})
		if response.StatusCode != test.status {
			t.Errorf("%s, %q: %s", test.channel, test.cookie, response.Status)
		}
		if test.status == 200 {
			publish(t, srv, "news", "for ada")
			wantLine(t, body, "for ada")
		}
		response.Body.Close()
	}
}

// Stats has all counters of the library. Apart from its own size, the C struct has only numbers of 64 bits.
func TestStatsHasEveryCounter(t *testing.T) {
	if ours, theirs := unsafe.Sizeof(push.Stats{}), push.StatsSize; ours+unsafe.Sizeof(uint64(0)) != theirs {
		t.Errorf("Stats has %d bytes, push_stats %d", ours, theirs)
	}
}

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

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

func TestEventsTellWhatClientsDo(t *testing.T) {
	harness.CheckLeaks(t)
	srv := start(t, push.Config{})
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
	for kind, name := range map[push.EventKind]string{push.Connected: "connected", push.Disconnected: "disconnected", push.Received: "received", push.Draining: "draining", push.Drained: "drained", push.Subscribed: "subscribed", push.Unsubscribed: "unsubscribed", push.Called: "called", 77: "unknown"} {
		if kind.String() != name {
			t.Errorf("%v", kind)
		}
	}
}

// There are more events than fit into one pull, in number and in bytes, while nobody receives. None is lost, and their
// order stays.
func TestEventsWaitForTheirReceiver(t *testing.T) {
	harness.CheckLeaks(t)
	srv := start(t, push.Config{Options: map[string]string{"event_queue": "64", "max_client_message": "1MB"}})
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
	harness.CheckLeaks(t)
	srv := start(t, push.Config{Options: map[string]string{"events": "close,subscribe,unsubscribe"}})
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
	harness.CheckLeaks(t)
	srv := start(t, push.Config{Options: map[string]string{"events": "call"}})
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

func TestEventsEndWithTheServer(t *testing.T) {
	harness.CheckLeaks(t)
	srv, err := push.Start(push.Config{})
	if err != nil {
		t.Fatal(err)
	}
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
	harness.CheckLeaks(t)
	srv := start(t, push.Config{Listen: []string{"127.0.0.1:0"}, Options: map[string]string{"auth": "host"}})
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

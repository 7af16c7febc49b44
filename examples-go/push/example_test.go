package push_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/coder/websocket"

	"libpush.example/go/push"
)

// A server, a message, and a subscriber inside the service.
func Example() {
	srv, err := push.Start(push.Config{Logger: quiet})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Stop(context.Background())

	sub, err := srv.Subscribe(context.Background(), []string{"news"}, push.SubscribeOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer sub.Close()

	if err := srv.Publish("news", []byte("hello")); err != nil {
		log.Fatal(err)
	}
	message, _ := sub.Next()
	fmt.Printf("%s: %s\n", message.Channel, message.Data)
	// Output: news: hello
}

// The service's login decides which channels a client may have.
func ExampleServer_Handler() {
	srv, err := push.Start(push.Config{Logger: quiet})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Stop(context.Background())

	mux := http.NewServeMux()
	mux.Handle("/push", srv.Handler(func(r *http.Request) (push.Grant, error) {
		session, err := r.Cookie("session")
		if err != nil {
			return push.Grant{}, push.ErrUnauthorized
		}
		user := session.Value // a real service looks it up
		return push.Grant{User: user, Channels: []string{"news", "user." + user}}, nil
	}))
	service := httptest.NewServer(mux)
	defer service.Close()

	for _, attempt := range []struct{ channel, cookie string }{
		{"user.ada", ""}, {"user.ada", "session=ben"}, {"user.ada", "session=ada"},
	} {
		request, _ := http.NewRequest("GET", service.URL+"/push?channel="+attempt.channel, nil)
		request.Header.Set("Accept", "text/event-stream")
		request.Header.Set("Cookie", attempt.cookie)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(response.Status)
		if response.StatusCode == http.StatusOK {
			srv.Publish("user.ada", []byte("for ada"))
			for lines := bufio.NewScanner(response.Body); lines.Scan(); {
				// The library's own events are JSON, and have names that begin with "push-".
				if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && data[0] != '{' {
					fmt.Println(data)
					break
				}
			}
		}
		response.Body.Close()
	}
	// Output:
	// 401 Unauthorized
	// 403 Forbidden
	// 200 OK
	// for ada
}

// The URL alone decides which channels a client gets. The client asks for no channel.
func ExampleGrant() {
	srv, err := push.Start(push.Config{Logger: quiet})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Stop(context.Background())

	mux := http.NewServeMux()
	mux.Handle("/rooms/{room}/live", srv.Handler(func(r *http.Request) (push.Grant, error) {
		return push.Grant{Subscribe: []string{"room." + r.PathValue("room")}}, nil
	}))
	service := httptest.NewServer(mux)
	defer service.Close()

	srv.Publish("room.kitchen", []byte("dinner is ready"))
	response, err := http.Get(service.URL + "/rooms/kitchen/live?last=1&transport=poll")
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	body := bufio.NewScanner(response.Body)
	body.Scan()
	fmt.Println(strings.Contains(body.Text(), "dinner is ready"))
	// Output: true
}

// Messages of WebSocket clients come as events, and each can be answered.
func ExampleServer_Events() {
	srv, err := push.Start(push.Config{Logger: quiet})
	if err != nil {
		log.Fatal(err)
	}
	events := srv.Events() // before clients can come
	go func() {
		for event := range events { // ends with Stop
			if event.Kind == push.Received {
				srv.Send(event.Conn, []byte("you said: "+string(event.Data)))
			}
		}
	}()
	service := httptest.NewServer(srv.Handler(push.Anyone))
	defer service.Close()
	defer srv.Stop(context.Background())

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, _, err := websocket.Dial(ctx, service.URL+"/?channel=any", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.CloseNow()
	client.Write(ctx, websocket.MessageText, []byte("hi"))
	_, answer, err := client.Read(ctx)
	fmt.Println(string(answer), err)
	// Output: you said: hi <nil>
}

// A subscription goes on where an earlier one ended.
func ExampleServer_Subscribe() {
	srv, err := push.Start(push.Config{Logger: quiet})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	at, err := srv.PublishMessage(push.Message{Channel: "orders", Data: []byte("seen")})
	if err != nil {
		log.Fatal(err)
	}
	srv.Publish("orders", []byte("missed"))
	srv.Publish("orders", []byte("missed, too"))

	sub, err := srv.Subscribe(ctx, []string{"orders"}, push.SubscribeOptions{Since: at})
	if err != nil {
		log.Fatal(err)
	}
	for order := range sub.All() {
		if order.Gap {
			fmt.Println("some are gone: look into the database")
			continue
		}
		fmt.Println(string(order.Data))
		if string(order.Data) == "missed, too" {
			go srv.Stop(ctx)
		}
	}
	fmt.Println(errors.Is(sub.Err(), push.ErrClosed))
	// Output:
	// missed
	// missed, too
	// true
}

// Who is in a room.
func ExampleServer_AllUsers() {
	srv, err := push.Start(push.Config{Logger: quiet})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Stop(context.Background())

	service := httptest.NewServer(srv.Handler(func(r *http.Request) (push.Grant, error) {
		user := r.URL.Query().Get("as") // a real service asks its login
		return push.Grant{User: user, Channels: []string{"room.7"}}, nil
	}))
	defer service.Close()
	for _, user := range []string{"ben", "ada", "ben"} {
		client, err := http.Get(service.URL + "/?channel=room.7&transport=stream&as=" + user)
		if err != nil {
			log.Fatal(err)
		}
		defer client.Body.Close()
	}

	for user, err := range srv.AllUsers("room.7") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(user.Name, user.Connections)
	}
	room, err := srv.Users("room.7", "", 0) // only how many
	fmt.Println(room.Count, "users,", room.Connections, "connections", err)
	// Output:
	// ada 1
	// ben 2
	// 2 users, 3 connections <nil>
}

func ExampleServer_PublishMessage() {
	srv, err := push.Start(push.Config{Logger: quiet})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Stop(context.Background())

	order := push.Message{Channel: "orders", Data: []byte(`{"id":7}`), Event: "created", Key: "order-7"}
	first, err := srv.PublishMessage(order)
	if err != nil {
		log.Fatal(err)
	}
	// A retry after a time-out publishes nothing, because of the key.
	again, err := srv.PublishMessage(order)
	fmt.Println(again == first, err)
	// Output: true <nil>
}

func ExampleError() {
	srv, err := push.Start(push.Config{Logger: quiet})
	if err != nil {
		log.Fatal(err)
	}
	srv.Stop(context.Background())

	err = srv.Publish("news", []byte("too late"))
	var failed *push.Error
	fmt.Println(errors.Is(err, push.ErrClosed), errors.As(err, &failed) && failed.Op == "publish")
	// Output: true true
}

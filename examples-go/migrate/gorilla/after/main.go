// The same clients without the loop: each message of a client comes as an event, and one goroutine answers them all.
package main

import (
	"log"
	"net/http"

	"libpush.example/go/internal/listen"
	"libpush.example/go/push"
)

func echo(srv *push.Server, events <-chan push.Event) {
	for event := range events {
		if event.Kind != push.Received {
			continue
		}
		send := srv.Send
		if event.Binary {
			send = srv.SendBinary
		}
		if err := send(event.Conn, event.Data); err != nil {
			srv.Close(event.Conn, 1011, "no answer") // does no harm if it is gone
		}
	}
}

func main() {
	srv, err := push.Start(push.Config{})
	if err != nil {
		log.Fatal(err)
	}
	go echo(srv, srv.Events())
	http.Handle("/echo", srv.Handler(func(r *http.Request) (push.Grant, error) {
		return push.Grant{Subscribe: []string{"echo"}}, nil
	}))
	listen.AndServe(nil)
}

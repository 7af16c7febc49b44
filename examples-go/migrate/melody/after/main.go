// The same clients on a channel: each message of a client is published, and the library delivers it.
package main

import (
	"log"
	"net/http"

	"libpush.example/go/internal/listen"
	"libpush.example/go/push"
)

func main() {
	srv, err := push.Start(push.Config{})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/ws", srv.Handler(func(r *http.Request) (push.Grant, error) {
		return push.Grant{Subscribe: []string{"chat"}}, nil
	}))
	events := srv.Events()
	go func() {
		for event := range events {
			if event.Kind == push.Received {
				srv.Publish("chat", event.Data)
			}
		}
	}()
	listen.AndServe(nil)
}

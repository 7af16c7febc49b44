// Broadcasting with melody, as in its example "chat": all clients get a message that one of them sends.
package main

import (
	"net/http"

	"github.com/olahol/melody"

	"libpush.example/go/internal/listen"
)

func main() {
	m := melody.New()
	http.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		m.HandleRequest(w, r)
	})
	m.HandleMessage(func(s *melody.Session, msg []byte) {
		m.Broadcast(msg)
	})
	listen.AndServe(nil)
}

// The read-write loop of gorilla/websocket, as in its example "echo": a goroutine and its buffers for each client.
package main

import (
	"log"
	"net/http"

	"github.com/gorilla/websocket"

	"libpush.example/go/internal/listen"
)

var upgrader = websocket.Upgrader{}

func echo(w http.ResponseWriter, r *http.Request) {
	c, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		log.Print("upgrade:", err)
		return
	}
	defer c.Close()
	for {
		mt, message, err := c.ReadMessage()
		if err != nil {
			break
		}
		if err = c.WriteMessage(mt, message); err != nil {
			break
		}
	}
}

func main() {
	http.HandleFunc("/echo", echo)
	listen.AndServe(nil)
}

// Command melody is the WebSocket peer in Go: melody over gorilla/websocket, as its documentation shows it.
//
//	melody ADDRESS
package main

import (
	"io"
	"log"
	"net/http"
	"os"

	"github.com/olahol/melody"
)

// sessionBuffer is so large that melody drops no message when 500 are published back to back. Its default is 256.
const sessionBuffer = 1024

func main() {
	if len(os.Args) != 2 {
		log.Fatal("melody ADDRESS")
	}
	hub := melody.New()
	hub.Config.MessageBufferSize = sessionBuffer

	http.HandleFunc("GET /sub", func(w http.ResponseWriter, r *http.Request) {
		if err := hub.HandleRequest(w, r); err != nil {
			log.Print(err)
		}
	})
	http.HandleFunc("POST /pub", func(w http.ResponseWriter, r *http.Request) {
		payload, err := io.ReadAll(r.Body)
		if err == nil {
			err = hub.Broadcast(payload)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}

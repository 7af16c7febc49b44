// SSE under gin, as in its example "server-sent-event": a channel and a goroutine for each client, and a goroutine that
// keeps the list of clients.
package main

import (
	"fmt"
	"io"
	"time"

	"github.com/gin-gonic/gin"

	"libpush.example/go/internal/listen"
)

type Event struct {
	Message       chan string
	NewClients    chan chan string
	ClosedClients chan chan string
	TotalClients  map[chan string]bool
}

func (stream *Event) listen() {
	for {
		select {
		case client := <-stream.NewClients:
			stream.TotalClients[client] = true
		case client := <-stream.ClosedClients:
			delete(stream.TotalClients, client)
			close(client)
		case message := <-stream.Message:
			for client := range stream.TotalClients {
				select {
				case client <- message:
				default: // a slow client misses it
				}
			}
		}
	}
}

func (stream *Event) serve(c *gin.Context) {
	client := make(chan string, 16)
	stream.NewClients <- client
	go func() {
		<-c.Writer.CloseNotify()
		for range client {
		}
	}()
	defer func() { stream.ClosedClients <- client }()
	c.Writer.Header().Set("Content-Type", "text/event-stream")
	c.Writer.Header().Set("Cache-Control", "no-cache")
	c.Stream(func(w io.Writer) bool {
		if message, ok := <-client; ok {
			c.SSEvent("message", message)
			return true
		}
		return false
	})
}

func main() {
	gin.SetMode(gin.ReleaseMode)
	stream := &Event{make(chan string), make(chan chan string), make(chan chan string), map[chan string]bool{}}
	go stream.listen()
	go func() {
		for n := 1; ; n++ {
			time.Sleep(100 * time.Millisecond)
			stream.Message <- fmt.Sprintf("tick %d", n)
		}
	}()
	router := gin.New()
	authorized := router.Group("/", gin.BasicAuth(gin.Accounts{"admin": "admin123"}))
	authorized.GET("/stream", stream.serve)
	listen.AndServe(router)
}

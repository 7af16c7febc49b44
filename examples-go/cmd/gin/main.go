// Command gin is live push under gin: the handler of net/http, in one route.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/gin-gonic/gin"

	"libpush.example/go/push"
)

func main() {
	address := flag.String("listen", "127.0.0.1:8080", "where to listen")
	flag.Parse()
	srv, err := push.Start(push.Config{})
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	service := &http.Server{Handler: router(srv)}
	go func() { log.Print(service.Serve(listener)) }()
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	fmt.Printf("listening on http://%s/\n", listener.Addr())
	<-ctx.Done()
	ending, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// First the subscribers are told to come back. Then the remaining requests end.
	if err := srv.Stop(ending); err != nil {
		log.Print(err)
	}
	_ = service.Shutdown(ending)
}

func router(srv *push.Server) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.Use(gin.Recovery())

	// A client with a token may read the channels of a room: /rooms/kitchen/live
	r.GET("/rooms/:room/live", login, func(c *gin.Context) {
		room := "room." + c.Param("room")
		gin.WrapH(srv.Handler(func(*http.Request) (push.Grant, error) {
			return push.Grant{User: c.GetString("user"), Subscribe: []string{room}}, nil
		}))(c)
	})
	r.POST("/rooms/:room", login, func(c *gin.Context) {
		data, err := c.GetRawData()
		if err == nil {
			err = srv.Publish("room."+c.Param("room"), data)
		}
		if err != nil {
			status := http.StatusBadRequest
			if errors.Is(err, push.ErrBusy) || errors.Is(err, push.ErrClosed) {
				status = http.StatusServiceUnavailable // it may be sent again later
			}
			c.JSON(status, gin.H{"error": err.Error()})
			return
		}
		c.Status(http.StatusNoContent)
	})
	return r
}

// login is the service's own login. Here every client with a name may come in.
func login(c *gin.Context) {
	user := c.Query("user")
	if user == "" {
		c.AbortWithStatusJSON(http.StatusUnauthorized, gin.H{"error": "who are you? ?user=NAME"})
		return
	}
	c.Set("user", user)
}

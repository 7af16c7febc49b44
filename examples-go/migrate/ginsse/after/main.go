// The same clients without channels and goroutines: the handler hands them over, and a publish reaches them.
package main

import (
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"libpush.example/go/internal/listen"
	"libpush.example/go/push"
)

func main() {
	gin.SetMode(gin.ReleaseMode)
	srv, err := push.Start(push.Config{})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for n := 1; ; n++ {
			time.Sleep(100 * time.Millisecond)
			_, err := srv.PublishMessage(push.Message{
				Channel: "ticks", Event: "message", Data: fmt.Appendf(nil, "tick %d", n),
			})
			if err != nil {
				log.Print(err)
			}
		}
	}()
	router := gin.New()
	authorized := router.Group("/", gin.BasicAuth(gin.Accounts{"admin": "admin123"}))
	authorized.GET("/stream", gin.WrapH(srv.Handler(func(r *http.Request) (push.Grant, error) {
		user, _, _ := r.BasicAuth() // gin has checked it
		return push.Grant{User: user, Subscribe: []string{"ticks"}}, nil
	})))
	listen.AndServe(router)
}

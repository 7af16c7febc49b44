// Command chat is a chat: login by cookie, rooms as channels, history on entering, and presence.
//
//	chat [-listen 127.0.0.1:8080] [-rooms lobby,kitchen,workshop]
package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"libpush.example/go/push"
)

//go:embed page
var page embed.FS

func main() {
	address := flag.String("listen", "127.0.0.1:8080", "where to listen")
	rooms := flag.String("rooms", "lobby,kitchen,workshop", "the rooms")
	flag.Parse()
	if err := run(*address, strings.Split(*rooms, ",")); err != nil {
		log.Fatal(err)
	}
}

func run(address string, rooms []string) error {
	srv, err := push.Start(push.Config{Options: map[string]string{
		"channel.room.*.history_count": "200",
		"channel.room.*.history_age":   "24h",
		// Who is in a room is shown to all who are there.
		"channel.room.*.presence": "true",
		"presence_grace":          stillHere,
		"max_client_message":      "16KB",
		"retry":                   "1s",
	}})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return errors.Join(err, srv.Stop(context.Background()))
	}
	chat := newChat(srv, rooms)
	go chat.run(srv.Events())
	service := &http.Server{Handler: routes(srv, chat, newLogins()), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- service.Serve(listener) }()
	signals, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	fmt.Printf("listening on http://%s/\n", listener.Addr())
	select {
	case err = <-failed:
	case <-signals.Done():
	}
	ending, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(err, srv.Stop(ending), service.Shutdown(ending))
}

// routes has the service's pages, its login, and one line for push.
func routes(srv *push.Server, chat *chat, logins *logins) http.Handler {
	files, err := fs.Sub(page, "page")
	if err != nil {
		panic(err) // not possible: the page is embedded
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	mux.Handle("GET /push", srv.Handler(func(r *http.Request) (push.Grant, error) {
		name, ok := logins.name(r)
		if !ok {
			return push.Grant{}, push.ErrUnauthorized
		}
		return push.Grant{User: name, Channels: chat.channels()}, nil
	}))
	mux.HandleFunc("GET /me", func(w http.ResponseWriter, r *http.Request) {
		name, ok := logins.name(r)
		if !ok {
			http.Error(w, "log in first", http.StatusUnauthorized)
			return
		}
		answer(w, map[string]any{"name": name, "rooms": chat.rooms})
	})
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 4096)
		cookie, err := logins.enter(r.PostFormValue("name"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		http.SetCookie(w, cookie)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) {
		if name, ok := logins.leave(r); ok {
			_ = srv.Disconnect(name, 4403, "logged out") // a user who is in no room has no connection
		}
		http.SetCookie(w, &http.Cookie{Name: cookieName, MaxAge: -1, Path: "/"})
		w.WriteHeader(http.StatusNoContent)
	})
	// Pages of other sites can neither log a browser in nor out; the library looks at the origin of /push itself.
	return http.NewCrossOriginProtection().Handler(mux)
}

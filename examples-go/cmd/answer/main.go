// Command answer shows a model's answer as it is written. The model is a fake one: it counts, 50 tokens a second. Each
// answer is the stream of a channel of its own, which begins and ends. So a page that is reloaded in the middle, a second
// tab, or a phone that joins late shows the whole answer, once, and knows when it is complete.
//
//	answer [-listen 127.0.0.1:8080] [-tokens 250] [-o NAME=VALUE]...
//
// With -o engine=file:DIRECTORY answers outlive the program. There is no login: whoever knows an answer may read it and
// stop it.
package main

import (
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"libpush.example/go/push"
)

//go:embed page
var page embed.FS

const (
	prefix      = "answer."
	perToken    = 20 * time.Millisecond
	mostAnswers = 64 // at once
)

func main() {
	options := map[string]string{
		// All of an answer is kept, for an hour, so that it can be shown from its start.
		"channel.answer.*.history_count": "10000",
		"channel.answer.*.history_age":   "1h",
	}
	address := flag.String("listen", "127.0.0.1:8080", "where to listen")
	tokens := flag.Int("tokens", 250, "the length of an answer")
	flag.Func("o", "an option of the library, `NAME=VALUE`", func(text string) error {
		name, value, _ := strings.Cut(text, "=")
		options[name] = value
		return nil
	})
	flag.Parse()
	if err := run(*address, *tokens, options); err != nil {
		log.Fatal(err)
	}
}

func run(address string, tokens int, options map[string]string) error {
	srv, err := push.Start(push.Config{Options: options})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return errors.Join(err, srv.Stop(context.Background()))
	}
	signals, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	models := &models{srv: srv, ctx: signals, tokens: tokens, stops: map[string]context.CancelFunc{}}
	service := &http.Server{Handler: routes(srv, models), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- service.Serve(listener) }()
	fmt.Printf("listening on http://%s/\n", listener.Addr())
	select {
	case err = <-failed:
	case <-signals.Done():
	}
	ending, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	models.running.Wait()
	return errors.Join(err, srv.Stop(ending), service.Shutdown(ending))
}

func routes(srv *push.Server, models *models) http.Handler {
	files, err := fs.Sub(page, "page")
	if err != nil {
		panic(err) // not possible: the page is embedded
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	mux.Handle("GET /push", srv.Handler(func(*http.Request) (push.Grant, error) {
		return push.Grant{Patterns: []string{prefix + "*"}}, nil
	}))
	mux.HandleFunc("POST /ask", func(w http.ResponseWriter, _ *http.Request) {
		channel, err := models.ask()
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, channel)
	})
	mux.HandleFunc("POST /stop", func(w http.ResponseWriter, r *http.Request) {
		models.stop(r.FormValue("channel"))
		w.WriteHeader(http.StatusNoContent)
	})
	return http.NewCrossOriginProtection().Handler(mux)
}

// models writes answers.
type models struct {
	srv     *push.Server
	ctx     context.Context
	tokens  int
	running sync.WaitGroup

	mu    sync.Mutex
	stops map[string]context.CancelFunc // the answers that are being written, by channel
}

// ask begins an answer, and returns its channel.
func (m *models) ask() (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.stops) == mostAnswers {
		return "", errors.New("too many answers at once")
	}
	channel := prefix + rand.Text() // no other answer has it, also after a restart
	if _, err := m.srv.Begin(channel); err != nil {
		return "", err
	}
	ctx, stop := context.WithCancel(m.ctx)
	m.stops[channel] = stop
	m.running.Go(func() {
		m.write(ctx, channel)
		m.mu.Lock()
		defer m.mu.Unlock()
		stop()
		delete(m.stops, channel)
	})
	return channel, nil
}

// write writes an answer until it is complete or stopped, and ends its stream.
func (m *models) write(ctx context.Context, channel string) {
	tick := time.NewTicker(perToken)
	defer tick.Stop()
	for token := 1; token <= m.tokens; token++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			token = m.tokens
			continue
		}
		text := strconv.Itoa(token)
		message := push.Message{Channel: channel, Data: []byte(text + " "), Key: text}
		m.persist(func() error {
			_, err := m.srv.PublishMessage(message)
			return err
		})
	}
	m.persist(func() error {
		_, err := m.srv.End(channel)
		return err
	})
}

// persist tries again while a queue is full or the hub is away. The key of a message makes that harmless.
func (m *models) persist(try func() error) {
	for m.ctx.Err() == nil { // else the program ends, and the answer is not complete
		err := try()
		if errors.Is(err, push.ErrBusy) || errors.Is(err, push.ErrTimeout) {
			time.Sleep(perToken)
			continue
		}
		if err != nil {
			log.Print(err)
		}
		return
	}
}

// stop has an answer end where it is.
func (m *models) stop(channel string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if stop, ok := m.stops[channel]; ok {
		stop()
	}
}

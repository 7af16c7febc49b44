// Command answer shows a model's answer as it is written. The model is a fake one: it counts, 50 tokens a second. Each
// answer is the stream of a channel of its own, which begins and ends. So a page that is reloaded in the middle, a second
// tab, or a phone that joins late shows the whole answer, once, and knows when it is complete.
//
//	answer [-listen 127.0.0.1:8080] [-tokens 250] [-list FILE] [-o NAME=VALUE]...
//
// With -o engine=file:DIRECTORY answers outlive the program. When it is told to end, it ends the answers that are being
// written. With -list FILE it keeps a list of these; if it is killed, the next program ends them when it starts. Otherwise
// their pages would wait for ever. There is no login: whoever knows an answer may read it and stop it.
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
	"os"
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
	mostAnswers = 64              // at once
	mostTokens  = 1_000_000_000   // of an answer
	toEnd       = 2 * time.Second // for the end of an answer, when the program is told to end
)

func main() {
	options := map[string]string{
		// All of an answer is kept, for an hour, so that it can be shown from its start.
		"channel.answer.*.history_count": "10000",
		"channel.answer.*.history_age":   "1h",
	}
	address := flag.String("listen", "127.0.0.1:8080", "where to listen")
	tokens := 250
	flag.Func("tokens", "the `length` of an answer (default 250)", func(text string) error {
		var err error
		tokens, err = readTokens(text)
		return err
	})
	flag.Func("o", "an option of the library, `NAME=VALUE`", func(text string) error {
		name, value, _ := strings.Cut(text, "=")
		options[name] = value
		return nil
	})
	list := flag.String("list", "", "the file that lists the answers that are being written")
	flag.Parse()
	if err := run(*address, tokens, *list, options); err != nil {
		log.Fatal(err)
	}
}

// readTokens reads a number in the one form that the library's options have, too: a mistyped one is not taken for another.
func readTokens(text string) (int, error) {
	number, err := strconv.Atoi(text)
	if err != nil || number < 0 || number > mostTokens || strconv.Itoa(number) != text {
		return 0, fmt.Errorf("a number from 0 to %d is expected", mostTokens)
	}
	return number, nil
}

func run(address string, tokens int, list string, options map[string]string) error {
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
	models := &models{srv: srv, ctx: signals, tokens: tokens, list: list, stops: map[string]context.CancelFunc{}}
	if err := models.endListed(); err != nil {
		return errors.Join(err, listener.Close(), srv.Stop(context.Background()))
	}
	service := &http.Server{Handler: routes(srv, models), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- service.Serve(listener) }()
	fmt.Printf("listening on http://%s/\n", listener.Addr())
	select {
	case err = <-failed:
	case <-signals.Done():
	}
	// First no request can begin an answer any more, then each answer ends its stream, and then the clients go. Each has
	// its own time.
	if within(service.Shutdown) != nil {
		err = errors.Join(err, service.Close()) // a browser may hold a connection without a request
	}
	models.running.Wait()
	return errors.Join(err, within(srv.Stop))
}

// within calls something that is to end in a few seconds.
func within(end func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return end(ctx)
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
	list    string // a file with the channels of stops, one a line; empty: there is none
	running sync.WaitGroup

	mu    sync.Mutex
	stops map[string]context.CancelFunc // the answers that are being written, by channel
}

// ask begins an answer, and returns its channel.
func (m *models) ask() (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.stops) >= mostAnswers {
		return "", errors.New("too many answers at once")
	}
	channel := prefix + rand.Text() // no other answer has it, also after a restart
	ctx, stop := context.WithCancel(m.ctx)
	m.stops[channel] = stop
	// The list comes first. Then no answer begins that nobody would end.
	err := m.writeList()
	if err == nil {
		_, err = m.srv.Begin(channel)
	}
	if err != nil {
		stop()
		delete(m.stops, channel)
		return "", err
	}
	m.run(ctx, channel)
	return channel, nil
}

// run writes an answer. If ctx is over already, it only ends it.
func (m *models) run(ctx context.Context, channel string) {
	m.running.Go(func() {
		hasEnded := m.write(ctx, channel)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.stops[channel]()
		if !hasEnded {
			return // it stays in the list, for the next program
		}
		delete(m.stops, channel)
		if err := m.writeList(); err != nil {
			log.Print(err)
		}
	})
}

// endListed ends the answers that a program before has left.
func (m *models) endListed() error {
	if m.list == "" {
		return nil
	}
	text, err := os.ReadFile(m.list)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for channel := range strings.Lines(string(text)) {
		channel = strings.TrimSpace(channel)
		ctx, stop := context.WithCancel(m.ctx)
		stop()
		m.stops[channel] = stop
		m.run(ctx, channel)
	}
	return nil
}

// writeList replaces the list by a new file, so that there is always a whole one.
func (m *models) writeList() error {
	if m.list == "" {
		return nil
	}
	var text strings.Builder
	for channel := range m.stops {
		text.WriteString(channel + "\n")
	}
	if err := os.WriteFile(m.list+".new", []byte(text.String()), 0o600); err != nil {
		return err
	}
	return os.Rename(m.list+".new", m.list)
}

// write writes an answer until it is complete or stopped, and ends its stream. False: it could not be ended.
func (m *models) write(ctx context.Context, channel string) bool {
	tick := time.NewTicker(perToken)
	defer tick.Stop()
	for token := 1; token <= m.tokens && ctx.Err() == nil; token++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			continue
		}
		text := strconv.Itoa(token)
		message := push.Message{Channel: channel, Data: []byte(text + " "), Key: text}
		m.persist(ctx, func() error {
			_, err := m.srv.PublishMessage(message)
			return err
		})
	}
	// The end has to come, also if the program is told to end. But a program does not wait for ever for a hub that is away.
	ending, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer context.AfterFunc(m.ctx, func() { time.AfterFunc(toEnd, cancel) })()
	return m.persist(ending, func() error {
		_, err := m.srv.End(channel)
		return err
	})
}

// persist tries again while a queue is full or the hub is away. The key of a message makes that harmless. False: it
// gives up, and another time it might succeed.
func (m *models) persist(ctx context.Context, try func() error) bool {
	for ctx.Err() == nil {
		err := try()
		if errors.Is(err, push.ErrBusy) || errors.Is(err, push.ErrTimeout) {
			time.Sleep(perToken)
			continue
		}
		if err != nil {
			log.Print(err)
		}
		return true
	}
	return false
}

// stop has an answer end where it is.
func (m *models) stop(channel string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if stop, ok := m.stops[channel]; ok {
		stop()
	}
}

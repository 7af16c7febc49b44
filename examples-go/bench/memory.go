package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// idle is one way in which clients wait for messages.
type idle struct {
	name   string
	kind   string
	tls    bool
	client string // ws, sse or h2
	few    int
	many   int
}

var idles = []idle{
	{"push ws", "push", false, "ws", 1000, 10000},
	{"push sse", "push", false, "sse", 1000, 10000},
	{"push ws, TLS", "push", true, "ws", 200, 2000},
	{"push sse, TLS", "push", true, "sse", 200, 2000},
	{"push sse, HTTP/2", "push", true, "h2", 200, 2000},
	{"melody ws", "melody", false, "ws", 1000, 10000},
	{"net/http sse", "sse", false, "sse", 1000, 10000},
}

// measureMemory returns the slope of Go's heap and stacks in use, after a collection, between few idle clients and
// many.
func measureMemory(o *options, r *report) error {
	host, err := o.build("host")
	if err != nil {
		return err
	}
	r.printf("\n## Go heap and stacks of an idle client: slope after a collection, bytes\n\n")
	r.printf("| clients | from | to | bytes a client | goroutines a client |\n|---|---|---|---|---|\n")
	rounds := 3
	if o.quick {
		rounds = 1
	}
	for _, i := range idles {
		for range rounds {
			if err := i.measure(host, r); err != nil {
				return fmt.Errorf("%s: %w", i.name, err)
			}
		}
		r.printf("| %s | %d | %d | %.1f | %.2f |\n", i.name, i.few, i.many, r.middle("memory "+i.name), r.middle("goroutines "+i.name))
	}
	return nil
}

// usage is a host's report of its own memory.
type usage struct {
	Bytes      float64 `json:"bytes"`
	Goroutines float64 `json:"goroutines"`
}

func (i *idle) measure(host string, r *report) error {
	arguments := []string{"-kind", i.kind}
	if i.tls {
		arguments = append(arguments, "-tls")
	}
	server, err := startProcess(host, arguments...)
	if err != nil {
		return err
	}
	defer server.end()
	insecure := &tls.Config{InsecureSkipVerify: true} // the host's certificate is httptest's
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: insecure.Clone(), ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	var opened []io.Closer
	defer func() {
		for _, one := range opened {
			one.Close()
		}
	}()
	at := func(count int) (u usage, err error) {
		for len(opened) < count && err == nil {
			var one io.Closer
			if one, err = i.open(server, client, insecure); err == nil {
				opened = append(opened, one)
			}
		}
		for range 3 { // after three collections nothing more is freed
			if err == nil {
				time.Sleep(200 * time.Millisecond)
				err = ask(client, server.url+"/memory", &u)
			}
		}
		return u, err
	}
	few, err := at(i.few)
	if err != nil {
		return err
	}
	many, err := at(i.many)
	if err != nil {
		return err
	}
	added := float64(i.many - i.few)
	r.add("memory "+i.name, (many.Bytes-few.Bytes)/added)
	r.add("goroutines "+i.name, (many.Goroutines-few.Goroutines)/added)
	return nil
}

func ask(client *http.Client, url string, into any) error {
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return json.NewDecoder(response.Body).Decode(into)
}

const path = "/sub?channel=bench"

// open connects one client, which then waits.
func (i *idle) open(server *process, client *http.Client, insecure *tls.Config) (io.Closer, error) {
	if i.client == "h2" {
		ctx, cancel := context.WithCancel(context.Background())
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.url+path, nil)
		if err != nil {
			cancel()
			return nil, err
		}
		request.Header.Set("Accept", "text/event-stream")
		response, err := client.Do(request)
		if err != nil {
			cancel()
			return nil, err
		}
		if response.ProtoMajor != 2 {
			cancel()
			return nil, fmt.Errorf("HTTP/%d", response.ProtoMajor)
		}
		return closer(func() { cancel(); response.Body.Close() }), nil
	}
	conn, err := net.Dial("tcp", "127.0.0.1:"+server.port())
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	if i.tls {
		conn = tls.Client(conn, insecure)
	}
	head := "Accept: text/event-stream\r\n"
	if i.client == "ws" {
		head = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: bench\r\n%s\r\n", path, head)
	lines := bufio.NewReaderSize(conn, 512)
	status, err := lines.ReadString('\n')
	for line := ""; err == nil && line != "\r\n"; {
		line, err = lines.ReadString('\n')
	}
	if err == nil && !strings.Contains(status, " 200 ") && !strings.Contains(status, " 101 ") {
		err = fmt.Errorf("refused: %s", status)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

type closer func()

func (c closer) Close() error { c(); return nil }

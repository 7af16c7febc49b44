package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// host is a server that delivers messages.
type host struct {
	name       string
	transports string
	subscribe  string
	publish    string
	command    func(o *options, folder string) ([]string, error)
}

func goHost(kind string) func(*options, string) ([]string, error) {
	return func(o *options, _ string) ([]string, error) {
		program, err := o.build("host")
		// By default melody drops some when 500 are published back to back.
		return []string{program, "-kind", kind, "-buffer", "1024"}, err
	}
}

var hosts = []host{
	{"C host", "ws sse", "/push?channel=bench", "/publish?channel=bench", func(o *options, folder string) ([]string, error) {
		return []string{o.cHost, "-p", "0", "-d", folder, "-o", "threads=1"}, nil
	}},
	{"Go host", "ws sse", path, "/pub", goHost("push")},
	{"melody", "ws", path, "/pub", goHost("melody")},
	{"net/http SSE", "sse", path, "/pub", goHost("sse")},
}

// load is a load that pushload makes.
type load struct {
	name      string
	transport string
	arguments []string
}

func loads(quick bool) []load {
	messages, saturated := "50", "500"
	if quick {
		messages, saturated = "15", "200"
	}
	return []load{
		{"ws", "ws", []string{"--subscribers", "2000", "--messages", messages, "--rate", "10", "--size", "128"}},
		{"sse", "sse", []string{"--subscribers", "2000", "--messages", messages, "--rate", "10", "--size", "128"}},
		{"saturated", "ws", []string{"--subscribers", "1000", "--messages", saturated, "--rate", "0", "--window", saturated, "--size", "100"}},
	}
}

// measured is the part of pushload's report that is read here.
type measured struct {
	CPU     float64 `json:"cpu_us_per_delivery"`
	Failed  int     `json:"failed"`
	Ended   int     `json:"ended_early"`
	Lost    int     `json:"lost"`
	Repeats int     `json:"repeats"`
	InTime  bool    `json:"in_time"`
}

// peerRounds is how often the peers are measured. Their second digit decides nothing.
const peerRounds = 2

// measureDelivery loads each host anew, on one CPU. The ratio is computed within each round.
func measureDelivery(o *options, r *report) error {
	rounds := o.rounds
	for _, l := range loads(o.quick) {
		for round := range rounds {
			// The two that are compared run one after the other. Each is first in every second round.
			order := []*host{&hosts[round%2], &hosts[1-round%2]}
			if round < peerRounds {
				order = append(order, &hosts[2], &hosts[3])
			}
			for _, h := range order {
				if !strings.Contains(h.transports, l.transport) {
					continue
				}
				if err := h.load(o, r, l); err != nil {
					return fmt.Errorf("%s: %w", h.name, err)
				}
			}
			name := "delivery " + l.name
			c, g := r.Values[name+" C host"], r.Values[name+" Go host"]
			r.add(name+" go/c", g[len(g)-1]/c[len(c)-1])
		}
	}
	r.printf("\n## CPU per delivery, us, medians of %d rounds (peers: fewer): server on one CPU, load on the other\n\n", rounds)
	r.printf("| host | ws, 2,000 at 10/s | sse, 2,000 at 10/s | saturated, 1,000 ws |\n|---|---|---|---|\n")
	for _, h := range hosts {
		r.printf("| %s |", h.name)
		for _, l := range loads(o.quick) {
			if values := r.Values["delivery "+l.name+" "+h.name]; len(values) > 0 {
				r.printf(" %.2f |", median(values))
			} else {
				r.printf(" |")
			}
		}
		r.printf("\n")
	}
	r.printf("\nSaturated, most of what is left is the publishing: a request of net/http for every 1,000 deliveries.\n")
	return nil
}

// loadLimit is how long one load may take.
const loadLimit = 2 * time.Minute

func (h *host) load(o *options, r *report, l load) error {
	command, err := h.command(o, o.folder)
	if err != nil {
		return err
	}
	server, err := startProcess(command[0], command[1:]...)
	if err != nil {
		return err
	}
	defer server.end()
	arguments := append([]string{
		"-c", loadCPU, o.pushload, "--port", server.port(), "--path", h.subscribe, "--publish", h.publish,
		"--transport", l.transport, "--pid", fmt.Sprint(server.command.Process.Pid), "--deadline", "60",
	}, l.arguments...)
	ctx, cancel := context.WithTimeout(context.Background(), loadLimit)
	defer cancel()
	said, err := exec.CommandContext(ctx, "taskset", arguments...).Output()
	if err != nil {
		return fmt.Errorf("pushload: %w", err)
	}
	var m measured
	if err := json.Unmarshal(said, &m); err != nil {
		return fmt.Errorf("pushload said %q: %w", said, err)
	}
	if m.Failed+m.Ended+m.Lost+m.Repeats > 0 || !m.InTime {
		r.fault("%s, %s: %s", h.name, l.name, said)
	}
	r.add("delivery "+l.name+" "+h.name, m.CPU)
	return nil
}

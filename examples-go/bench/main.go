// Command bench measures package push: how much more a publish costs than the same call from C, the cost of an idle
// client in Go, and the cost of a delivery through a Go host and a C host. It measures melody and an SSE server of
// net/http alone in the same run.
//
//	go run ./bench [-quick] [-only publish,memory,delivery] -pushload PATH -c-host PATH [-out FILE]
//
// `make bench-go` builds what it needs. It needs two CPUs that do nothing else.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// options are the options of the command line.
type options struct {
	quick    bool
	only     string
	pushload string
	cHost    string
	out      string
	rounds   int
	folder   string // for the programs that are built
}

// report is the result, in the form of the report's reader.
type report struct {
	text   strings.Builder
	Values map[string][]float64 `json:"values"`
	faults []string
}

func (r *report) printf(format string, values ...any) {
	line := fmt.Sprintf(format, values...)
	fmt.Print(line)
	r.text.WriteString(line)
}

func (r *report) add(name string, value float64) {
	r.Values[name] = append(r.Values[name], value)
}

func (r *report) fault(format string, values ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, values...))
}

// middle is the median of a value's rounds.
func (r *report) middle(name string) float64 {
	return median(r.Values[name])
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// verdict is a line of the table of figures.
func (r *report) verdict(what string, value float64, unit string, most float64) {
	word := "reached"
	switch {
	case value == 0:
		word = "not measured"
	case value > most:
		word = "not reached"
	}
	r.printf("| %s | <= %g %s | %.3g %s | %s |\n", what, most, unit, value, unit, word)
}

func main() {
	log.SetFlags(0)
	var o options
	flag.BoolVar(&o.quick, "quick", false, "short loads: less than a minute")
	flag.StringVar(&o.only, "only", "publish,memory,delivery", "what to measure")
	flag.StringVar(&o.pushload, "pushload", "../target/bench/bin/pushload", "the load generator")
	flag.StringVar(&o.cHost, "c-host", "../target/examples-c/legacy-server", "the C host")
	flag.StringVar(&o.out, "out", "", "where to write the report, and beside it the values as JSON")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of each load")
	flag.Parse()
	if err := run(&o); err != nil {
		log.Fatal(err)
	}
}

func run(o *options) error {
	folder, err := os.MkdirTemp("", "push-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	o.folder = folder
	r := &report{Values: map[string][]float64{}}
	for _, part := range []struct {
		name    string
		measure func(*options, *report) error
	}{{"publish", measurePublish}, {"memory", measureMemory}, {"delivery", measureDelivery}} {
		if !strings.Contains(o.only, part.name) {
			continue
		}
		if err := part.measure(o, r); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	figures(r)
	for _, fault := range r.faults {
		r.printf("\nFAULT: %s\n", fault)
	}
	if err := write(o, r); err != nil {
		return err
	}
	if len(r.faults) > 0 {
		return fmt.Errorf("%d faults", len(r.faults)) // a missed target is a result; a lost message is a fault
	}
	return nil
}

func figures(r *report) {
	r.printf("\n## Figures\n\n| figure | to reach | measured | |\n|---|---|---|---|\n")
	r.verdict("Publish from Go, more than from C", r.middle("publish more ns"), "ns", 100)
	r.verdict("PublishMessage from Go, more than from C", r.middle("message more ns"), "ns", 100)
	r.verdict("PublishBatch of 100 from Go, over C", r.middle("batch ratio"), "", 1.2)
	r.verdict("PublishBatchPositions of 100 from Go, over C", r.middle("batch positions ratio"), "", 1.2)
	// A negative cost counts as 0: the collector's remaining memory may shrink while clients come.
	r.verdict("Go heap and stacks of an idle WebSocket", max(0.01, r.middle("memory push ws")), "B", 64)
	r.verdict("Go heap and stacks of an idle SSE client", max(0.01, r.middle("memory push sse")), "B", 64)
	r.verdict("CPU per delivery over the C host, WebSocket", r.middle("delivery ws go/c"), "", 1.05)
	r.verdict("CPU per delivery over the C host, SSE", r.middle("delivery sse go/c"), "", 1.05)
}

func write(o *options, r *report) error {
	if o.out == "" {
		return nil
	}
	values, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	beside := strings.TrimSuffix(o.out, filepath.Ext(o.out)) + ".json"
	if err := os.WriteFile(beside, append(values, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(o.out, []byte(r.text.String()), 0o644)
}

// Command otlp is the OTLP receiver of the OpenTelemetry Collector, with a consumer that prints each span.
//
//	otlp '{"endpoint": "127.0.0.1:4318", "max_request_body_size": 1000}' [answer]...
//
// The first argument is what a Collector has below receivers.otlp.protocols.http. The further ones are what the
// consumer says to the first requests: "busy" (it has no room now), "busy:3" (it has room in 3 seconds) or "never" (it
// will not take these). After those it takes everything.
//
// Its output has lines of JSON: {"listens": true} when it takes requests, then the spans, one a line. It ends when its
// input ends.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	metric "go.opentelemetry.io/otel/metric/noop"
	trace "go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: otlp CONFIGURATION [busy|busy:SECONDS|never]...")
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		log.Fatal(err)
	}
}

func run(settings string, answers []string) error {
	printed := &printer{out: json.NewEncoder(os.Stdout), answers: answers}
	server, err := newReceiver(settings, printed.take)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := server.Start(ctx, host{}); err != nil {
		return err
	}
	if err := printed.out.Encode(map[string]bool{"listens": true}); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	// A client may keep its connection, and a request may be under way.
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// newReceiver makes the receiver from its configuration, as a Collector does.
func newReceiver(settings string, take consumer.ConsumeTracesFunc) (receiver.Traces, error) {
	var http map[string]any
	if err := json.Unmarshal([]byte(settings), &http); err != nil {
		return nil, err
	}
	factory := otlpreceiver.NewFactory()
	config := factory.CreateDefaultConfig()
	given := confmap.NewFromStringMap(map[string]any{"protocols": map[string]any{"http": http}})
	if err := given.Unmarshal(config); err != nil {
		return nil, err
	}
	if err := confmap.Validate(config); err != nil {
		return nil, err
	}
	// Standard error has what it warns of.
	logger, err := zap.NewProduction(zap.IncreaseLevel(zap.WarnLevel))
	if err != nil {
		return nil, err
	}
	next, err := consumer.NewTraces(take)
	if err != nil {
		return nil, err
	}
	telemetry := component.TelemetrySettings{
		Logger:         logger,
		TracerProvider: trace.NewTracerProvider(),
		MeterProvider:  metric.NewMeterProvider(),
		Resource:       pcommon.NewResource(),
	}
	set := receiver.Settings{
		ID:                component.NewID(factory.Type()),
		TelemetrySettings: telemetry,
		BuildInfo:         component.NewDefaultBuildInfo(),
	}
	return factory.CreateTraces(context.Background(), set, config, next)
}

// host has no extensions.
type host struct{}

func (host) GetExtensions() map[component.ID]component.Component { return nil }

// printer is the consumer behind the receiver.
type printer struct {
	mu      sync.Mutex
	out     *json.Encoder
	answers []string
}

// span is a line of the output. Ids are in hex, as they are shown everywhere. Times are nanoseconds since 1970.
type span struct {
	Trace      string         `json:"trace"`
	ID         string         `json:"id"`
	Parent     string         `json:"parent"`
	Name       string         `json:"name"`
	Kind       string         `json:"kind"`
	Flags      uint32         `json:"flags"`
	Status     string         `json:"status"`
	Begun      uint64         `json:"begun"`
	Ended      uint64         `json:"ended"`
	Attributes map[string]any `json:"attributes"`
	Events     []event        `json:"events"`
	Resource   map[string]any `json:"resource"`
	Scope      string         `json:"scope"`
	// Request has header lines of the request that the span came with, if the configuration has include_metadata.
	Request map[string][]string `json:"request"`
}

type event struct {
	Name       string         `json:"name"`
	At         uint64         `json:"at"`
	Attributes map[string]any `json:"attributes"`
}

func (p *printer) take(ctx context.Context, traces ptrace.Traces) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.answers) > 0 {
		answer := p.answers[0]
		p.answers = p.answers[1:]
		return refusal(answer)
	}
	request := headerOf(ctx)
	for _, ofResource := range traces.ResourceSpans().All() {
		resource := ofResource.Resource().Attributes().AsRaw()
		for _, ofScope := range ofResource.ScopeSpans().All() {
			for _, one := range ofScope.Spans().All() {
				line := read(one)
				line.Resource, line.Scope, line.Request = resource, ofScope.Scope().Name(), request
				if err := p.out.Encode(line); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// refusal is the error with which components of a Collector refuse what they are given.
func refusal(answer string) error {
	if answer == "never" {
		return consumererror.NewPermanent(errors.New("these are refused for good"))
	}
	_, seconds, timed := strings.Cut(answer, ":")
	if !timed {
		return errors.New("there is no room")
	}
	count, err := strconv.Atoi(seconds)
	if err != nil {
		log.Fatalf("answer %q: %v", answer, err)
	}
	said := status.New(codes.ResourceExhausted, "there is no room")
	said, err = said.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Duration(count) * time.Second)})
	if err != nil {
		log.Fatal(err)
	}
	return said.Err()
}

func headerOf(ctx context.Context) map[string][]string {
	lines := map[string][]string{}
	metadata := client.FromContext(ctx).Metadata
	for name := range metadata.Keys() {
		lines[name] = metadata.Get(name)
	}
	return lines
}

func read(one ptrace.Span) span {
	line := span{
		Trace:      one.TraceID().String(),
		ID:         one.SpanID().String(),
		Parent:     one.ParentSpanID().String(),
		Name:       one.Name(),
		Kind:       one.Kind().String(),
		Flags:      one.Flags(),
		Status:     one.Status().Code().String(),
		Begun:      uint64(one.StartTimestamp()),
		Ended:      uint64(one.EndTimestamp()),
		Attributes: one.Attributes().AsRaw(),
		Events:     []event{},
	}
	for _, each := range one.Events().All() {
		found := event{Name: each.Name(), At: uint64(each.Timestamp()), Attributes: each.Attributes().AsRaw()}
		line.Events = append(line.Events, found)
	}
	return line
}

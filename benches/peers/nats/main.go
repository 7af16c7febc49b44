// bare-nats: what a log in JetStream costs without a hub.
//
//	bare-nats append URL COUNT RATE   appends COUNT entries with the time in them, RATE a second, each acknowledged
//	bare-nats read URL COUNT          follows the stream, and prints how old each entry was, in ns
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	payload  = 128
	lifetime = 5 * time.Minute
)

func main() {
	time.AfterFunc(lifetime, func() { os.Exit(1) })
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(words []string) error {
	if len(words) < 3 {
		return errors.New("usage: bare-nats append URL COUNT RATE | read URL COUNT")
	}
	count, err := strconv.Atoi(words[2])
	if err != nil {
		return err
	}
	conn, err := nats.Connect(words[1])
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	ctx := context.Background()
	stream, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: "bare", Subjects: []string{"bare"}, Storage: jetstream.FileStorage,
	})
	if err != nil {
		return err
	}
	if words[0] == "read" {
		return read(ctx, stream, count)
	}
	if len(words) < 4 {
		return errors.New("append needs a rate")
	}
	rate, err := strconv.ParseFloat(words[3], 64)
	if err != nil {
		return err
	}
	return appendAll(ctx, js, count, rate)
}

func appendAll(ctx context.Context, js jetstream.JetStream, count int, rate float64) error {
	began := time.Now()
	for n := range count {
		time.Sleep(time.Until(began.Add(time.Duration(float64(n) / rate * float64(time.Second)))))
		entry := fmt.Sprintf("@%020d", time.Now().UnixNano())
		entry += strings.Repeat(".", payload-len(entry))
		if _, err := js.Publish(ctx, "bare", []byte(entry)); err != nil {
			return err
		}
	}
	return nil
}

func read(ctx context.Context, stream jetstream.Stream, count int) error {
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for range count {
		message, err := messages.Next()
		if err != nil {
			return err
		}
		now := time.Now().UnixNano()
		sent, err := strconv.ParseInt(string(message.Data()[1:21]), 10, 64)
		if err != nil {
			return err
		}
		fmt.Println(now - sent)
	}
	return nil
}

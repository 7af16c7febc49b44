package push_test

import (
	"bytes"
	"testing"

	"libpush.example/go/push"
)

func BenchmarkPublish(b *testing.B) {
	srv := start(b, push.Config{Logger: quiet})
	data := bytes.Repeat([]byte("x"), 100)
	b.ReportAllocs()
	for b.Loop() {
		if err := srv.Publish("news", data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPublishMessage(b *testing.B) {
	srv := start(b, push.Config{Logger: quiet})
	data := bytes.Repeat([]byte("x"), 100)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := srv.PublishMessage(push.Message{Channel: "news", Data: data}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPublishBatch(b *testing.B) {
	benchmarkBatch(b, func(srv *push.Server, batch []push.Message) error { return srv.PublishBatch(batch) })
}

func BenchmarkPublishBatchPositions(b *testing.B) {
	benchmarkBatch(b, func(srv *push.Server, batch []push.Message) error {
		_, err := srv.PublishBatchPositions(batch)
		return err
	})
}

func benchmarkBatch(b *testing.B, publish func(*push.Server, []push.Message) error) {
	srv := start(b, push.Config{Logger: quiet})
	batch := make([]push.Message, 100)
	for i := range batch {
		batch[i] = push.Message{Channel: "news", Data: bytes.Repeat([]byte("x"), 100)}
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := publish(srv, batch); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSubscribe measures a message from the publish to Next.
func BenchmarkSubscribe(b *testing.B) {
	srv := start(b, push.Config{Logger: quiet})
	sub, err := srv.Subscribe(b.Context(), []string{"news"}, push.SubscribeOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer sub.Close()
	data := bytes.Repeat([]byte("x"), 100)
	b.ReportAllocs()
	for b.Loop() {
		if err := srv.Publish("news", data); err != nil {
			b.Fatal(err)
		}
		if _, ok := sub.Next(); !ok {
			b.Fatal(sub.Err())
		}
	}
}

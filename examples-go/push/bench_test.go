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
	srv := start(b, push.Config{Logger: quiet})
	batch := make([]push.Message, 100)
	for i := range batch {
		batch[i] = push.Message{Channel: "news", Data: bytes.Repeat([]byte("x"), 100)}
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := srv.PublishBatch(batch); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPublishBatchPositions(b *testing.B) {
	srv := start(b, push.Config{Logger: quiet})
	batch := make([]push.Message, 100)
	for i := range batch {
		batch[i] = push.Message{Channel: "news", Data: bytes.Repeat([]byte("x"), 100)}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := srv.PublishBatchPositions(batch); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSubscribe is a message from a publish to Next.
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

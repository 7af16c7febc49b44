// centrifuge-node is a node of a cluster over the Redis engine of the module centrifuge: centrifuge-node ADDRESS REDIS.
//
//	GET /sub?cf_connect={"id":1,"connect":{}}   a subscriber of the channel `bench` over SSE
//	POST /pub                publishes the body, and answers when the broker has it
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/centrifugal/centrifuge"
)

// The history that a hub of libpush keeps by default.
const (
	historySize = 100
	historyTTL  = 5 * time.Minute
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: centrifuge-node ADDRESS REDIS")
	}
	node, err := centrifuge.New(centrifuge.Config{LogLevel: centrifuge.LogLevelError})
	if err != nil {
		log.Fatal(err)
	}
	shard, err := centrifuge.NewRedisShard(node, centrifuge.RedisShardConfig{Address: os.Args[2]})
	if err != nil {
		log.Fatal(err)
	}
	broker, err := centrifuge.NewRedisBroker(node, centrifuge.RedisBrokerConfig{Shards: []*centrifuge.RedisShard{shard}})
	if err != nil {
		log.Fatal(err)
	}
	node.SetBroker(broker)
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{
			Credentials:   &centrifuge.Credentials{},
			Subscriptions: map[string]centrifuge.SubscribeOptions{"bench": {EnableRecovery: true}},
		}, nil
	})
	if err := node.Run(); err != nil {
		log.Fatal(err)
	}
	http.Handle("/sub", centrifuge.NewSSEHandler(node, centrifuge.SSEConfig{}))
	http.HandleFunc("/pub", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			// It takes JSON.
			body, err = json.Marshal(string(body))
		}
		if err == nil {
			_, err = node.Publish("bench", body, centrifuge.WithHistory(historySize, historyTTL))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}

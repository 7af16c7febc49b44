package push_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"libpush.example/go/push"
)

func TestAStreamBeginsAndEnds(t *testing.T) {
	server := start(t, push.Config{Options: map[string]string{"listen": "127.0.0.1:0", "channel.unkept.history_count": "0"}})
	if _, err := server.Begin("answer"); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"one", "two"} {
		if err := server.Publish("answer", []byte(token)); err != nil {
			t.Fatal(err)
		}
	}
	end, err := server.End("answer")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := server.End("answer"); err != nil || again != end {
		t.Errorf("a second end: %q, %v; the first: %q", again, err, end)
	}
	// A subscription of the service itself is over.
	sub, err := server.Subscribe(t.Context(), []string{"answer"}, push.SubscribeOptions{Since: push.FromStart})
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for d := range sub.All() {
		switch {
		case d.Begin:
			told = append(told, "begin")
		case d.End:
			told = append(told, "end")
		default:
			told = append(told, string(d.Data))
		}
	}
	if got := strings.Join(told, " "); got != "begin one two end" || sub.Err() != nil {
		t.Errorf("%q, %v", got, sub.Err())
	}
	// The response ends, since nothing more can come.
	url := "http://" + server.Addresses()[0] + "/push?channel=answer"
	response, err := http.Get(url + "&transport=stream&since=start")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	text := string(body)
	if err != nil || strings.Count(text, `"data"`) != 2 || !strings.Contains(text, `"type":"end","channel":"answer"`) {
		t.Errorf("%v: %s", err, text)
	}
	// An EventSource that has the end is told to stay away.
	request, _ := http.NewRequest("GET", url, nil)
	request.Header.Set("Accept", "text/event-stream")
	request.Header.Set("Last-Event-ID", string(end))
	response, err = http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusNoContent {
		t.Errorf("status %d", response.StatusCode)
	}
	if stats, _ := server.Stats(); stats.EndedChannels != 1 {
		t.Errorf("%d channels have ended", stats.EndedChannels)
	}
	for _, channel := range []string{"", "news.*", "a\nb", "unkept"} {
		if _, err := server.End(channel); !errors.Is(err, push.ErrInvalid) {
			t.Errorf("end %q: %v", channel, err)
		}
		if _, err := server.Begin(channel); !errors.Is(err, push.ErrInvalid) {
			t.Errorf("begin %q: %v", channel, err)
		}
	}
}

// A host may close with code 1000, too.
func TestOnlyTheEndsOfItsChannelsEndASubscription(t *testing.T) {
	const key = "0123456789abcdef0123456789abcdef"
	server := start(t, push.Config{Options: map[string]string{
		"listen": "127.0.0.1:0", "control": "127.0.0.1:0", "control_key": key,
	}})
	sub := subscribe(t, server, push.SubscribeOptions{}, "a", "b")
	end, err := server.End("a")
	if err != nil {
		t.Fatal(err)
	}
	if d := next(t, sub); !d.End || d.Channel != "a" || d.Position != end {
		t.Errorf("%+v", d)
	}
	disconnect := "http://" + server.Addresses()[1] + "/v1/disconnect?all=1&code=1000"
	request, _ := http.NewRequest("POST", disconnect, nil)
	request.Header.Set("Authorization", "Bearer "+key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(response.Body)
	response.Body.Close()
	if strings.TrimSpace(string(answer)) != `{"closed":1}` {
		t.Errorf("%s", answer)
	}
	// It goes on, and is not told of the same end again.
	publish(t, server, "b", "on")
	if d := next(t, sub); string(d.Data) != "on" || d.Channel != "b" {
		t.Errorf("%+v", d)
	}
	// The channel is opened anew, and ends again.
	publish(t, server, "a", "again")
	for _, channel := range []string{"a", "b"} {
		if _, err := server.End(channel); err != nil {
			t.Fatal(err)
		}
	}
	var told []string
	for d := range sub.All() {
		if d.End {
			told = append(told, "end "+d.Channel)
		} else {
			told = append(told, string(d.Data))
		}
	}
	if got := strings.Join(told, ", "); got != "again, end a, end b" || sub.Err() != nil {
		t.Errorf("%s, %v", got, sub.Err())
	}
}

package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"libpush.example/go/internal/harness"
)

// enter logs a user in, in a separate browser.
func enter(t *testing.T, browser *harness.Chromium, url, name string) *harness.Tab {
	t.Helper()
	tab := browser.Open(t, url)
	tab.Wait(t, `!document.getElementById("door").hidden`)
	tab.Evaluate(t, `document.getElementById("name").focus()`)
	tab.Type(t, name+"\n")
	tab.Wait(t, `document.getElementById("state").textContent === "connected"`)
	return tab
}

// say types a message as a person would.
func say(t *testing.T, tab *harness.Tab, text string) {
	t.Helper()
	tab.Evaluate(t, `document.getElementById("text").focus()`)
	tab.Type(t, text+"\n")
}

// transcript is an expression that returns the visible lines.
const transcript = `[...document.querySelectorAll("#messages li")].map((item) =>
	item.matches(".mark") ? "-- " + item.textContent : item.dataset.from + ": " + item.querySelector(".what").textContent +
		(item.matches(".waiting") ? " (waiting)" : "")).join("\n")`

func wantTranscript(t *testing.T, tab *harness.Tab, lines ...string) {
	t.Helper()
	want := strings.Join(lines, "\n")
	var got any
	defer func() {
		if t.Failed() {
			t.Logf("seen:\n%s\nwanted:\n%s", got, want)
		}
	}()
	harness.Wait(t, "the transcript", func() bool {
		got = tab.Evaluate(t, transcript)
		return got == want
	})
}

const people = `[...document.querySelectorAll("#people .name")].map((item) => item.textContent).join()`

func TestTwoBrowsersTalk(t *testing.T) {
	browser := harness.StartChromium(t)
	chat := harness.Run(t, "./cmd/chat")
	network := harness.StartProxy(t, strings.TrimPrefix(chat.URL, "http://"))

	ada := enter(t, browser, chat.URL, "Ada")
	ben := enter(t, browser, "http://"+network.Address, "Ben")
	for _, tab := range []*harness.Tab{ada, ben} {
		tab.Wait(t, people+` === "Ada,Ben" && document.getElementById("count").textContent === "2"`)
	}
	both := []string{"Ada: Hello, Ben!", "Ben: <b>Hello</b> & welcome"}
	say(t, ada, "Hello, Ben!")
	// A page shows its own messages at once, so Ben answers a message that he has seen.
	wantTranscript(t, ben, both[0])
	say(t, ben, "<b>Hello</b> & welcome")
	wantTranscript(t, ada, both...)
	wantTranscript(t, ben, both...)

	// Ben's network fails. Meanwhile he says something, and so does she.
	network.Cut()
	ben.Wait(t, `!document.getElementById("lost").hidden`)
	say(t, ben, "do you hear me?")
	say(t, ada, "first while he was away")
	say(t, ada, "second while he was away")
	wantTranscript(t, ben, append(both, "Ben: do you hear me? (waiting)")...)
	screenshot(t, ben, "lost")
	ada.Wait(t, people+` === "Ada"`)
	wantTranscript(t, ada, append(both, "Ada: first while he was away", "Ada: second while he was away")...)
	network.Mend()
	wantTranscript(t, ben, append(both, "Ben: do you hear me?",
		"-- While you were away", "Ada: first while he was away", "Ada: second while he was away")...)
	wantTranscript(t, ada, append(both, "Ada: first while he was away", "Ada: second while he was away", "Ben: do you hear me?")...)
	ada.Wait(t, people+` === "Ada,Ben"`)

	// A third user sees the earlier messages. Another room has its own messages and users.
	cleo := enter(t, browser, chat.URL, "Cleo")
	all := append(both, "Ada: first while he was away", "Ada: second while he was away", "Ben: do you hear me?")
	wantTranscript(t, cleo, all...)
	ada.Wait(t, people+` === "Ada,Ben,Cleo"`)
	cleo.Evaluate(t, `[...document.querySelectorAll("#rooms button")].find((b) => b.textContent === "kitchen").click()`)
	cleo.Wait(t, people+` === "Cleo"`)
	// She has left the room before, and takes no part in it any more.
	ada.Wait(t, people+` === "Ada,Ben"`)
	say(t, cleo, "nobody here?")
	wantTranscript(t, cleo, "Cleo: nobody here?")
	wantTranscript(t, ada, all...)

	// A reload does not lose the login, and does not look like leaving.
	cleo.Reload(t)
	cleo.Wait(t, `document.getElementById("state")?.textContent === "connected"`)
	wantTranscript(t, cleo, "Cleo: nobody here?")
	cleo.Wait(t, people+` === "Cleo"`)

	// Flooding is refused, and the client is told.
	cleo.Evaluate(t, `(async () => { for (let i = 0; i < 60; i++) {
		document.getElementById("text").value = "spam " + i; document.getElementById("say").requestSubmit(); } })()`)
	cleo.Wait(t, `document.querySelectorAll(".refused").length > 0`)

	ada.Evaluate(t, `document.getElementById("logout").click()`)
	ada.Wait(t, `!document.getElementById("door").hidden`)
	ben.Wait(t, people+` === "Ben"`)

	for name, size := range map[string][2]int{"wide": {1100, 760}, "narrow": {420, 760}} {
		ben.Size(t, size[0], size[1], name == "narrow")
		screenshot(t, ben, name)
	}
}

// screenshot keeps a picture in the directory CHAT_PICTURES, to look at.
func screenshot(t *testing.T, tab *harness.Tab, name string) {
	if folder := os.Getenv("CHAT_PICTURES"); folder != "" {
		tab.Screenshot(t, fmt.Sprintf("%s/chat-%s.png", folder, name))
	}
}

func TestLogin(t *testing.T) {
	logins := newLogins()
	cookie, err := logins.enter("  Ada   Lovelace ")
	if err != nil {
		t.Fatal(err)
	}
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode {
		t.Errorf("%+v", cookie)
	}
	request, _ := http.NewRequest("GET", "/", nil)
	if name, ok := logins.name(request); ok {
		t.Errorf("without a cookie: %q", name)
	}
	request.AddCookie(&http.Cookie{Name: cookieName, Value: "guessed"})
	if name, ok := logins.name(request); ok {
		t.Errorf("with a cookie of one's own: %q", name)
	}
	request, _ = http.NewRequest("GET", "/", nil)
	request.AddCookie(cookie)
	if name, ok := logins.name(request); !ok || name != "Ada Lovelace" {
		t.Errorf("%q, %v", name, ok)
	}
	for _, bad := range []string{"", " ", "ada LOVELACE", strings.Repeat("x", 25), "a\x00b", "\xff", "a\u202eb"} {
		if _, err := logins.enter(bad); err == nil {
			t.Errorf("%q may come in", bad)
		}
	}
	if name, ok := logins.leave(request); !ok || name != "Ada Lovelace" {
		t.Errorf("%q, %v", name, ok)
	}
	if _, ok := logins.name(request); ok {
		t.Error("still here")
	}
	if _, err := logins.enter("Ada Lovelace"); err != nil {
		t.Error(err)
	}
}

func TestFlooding(t *testing.T) {
	now := time.Now()
	m := &member{allowance: burst, spoke: now}
	allowed := 0
	for range 20 {
		if m.mayTalk(now) {
			allowed++
		}
	}
	if allowed != burst {
		t.Errorf("%d at once", allowed)
	}
	if m.mayTalk(now.Add(refillsIn/2)) || !m.mayTalk(now.Add(refillsIn)) {
		t.Error("refills at another rate")
	}
}

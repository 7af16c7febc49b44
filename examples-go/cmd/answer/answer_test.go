package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"libpush.example/go/internal/harness"
)

const (
	text  = `document.getElementById("text").textContent`
	state = `document.getElementById("state").textContent`
)

// ask asks as a person would, and returns the part of the address that names the answer.
func ask(t *testing.T, tab *harness.Tab) string {
	t.Helper()
	tab.Evaluate(t, `document.getElementById("ask").click()`)
	tab.Wait(t, `location.hash !== ""`)
	return tab.Evaluate(t, `location.hash`).(string)
}

// counted is an answer of so many tokens.
func counted(tokens int) string {
	var all strings.Builder
	for token := range tokens {
		fmt.Fprintf(&all, "%d ", token+1)
	}
	return all.String()
}

func wantAll(t *testing.T, tab *harness.Tab, want string) {
	t.Helper()
	tab.Wait(t, state+` === "complete"`)
	if got := tab.Evaluate(t, text); got != want {
		t.Errorf("%q, not %q", got, want)
	}
}

func TestEachPageShowsTheWholeAnswerOnce(t *testing.T) {
	browser := harness.StartChromium(t)
	answer := harness.Run(t, "./cmd/answer", "-listen", "127.0.0.1:0", "-tokens", "300", "-o", "retry=100ms")
	network := harness.StartProxy(t, strings.TrimPrefix(answer.URL, "http://"))

	tab := browser.Open(t, answer.URL)
	hash := ask(t, tab)
	tab.Wait(t, text+`.includes(" 20 ")`)
	tab.Reload(t)
	phone := browser.Open(t, "http://"+network.Address+"/"+hash)
	phone.Wait(t, text+`.includes(" 40 ")`)
	network.Cut()
	tab.Wait(t, text+`.includes(" 80 ")`)
	network.Mend()
	wantAll(t, tab, counted(300))
	wantAll(t, phone, counted(300))
	late := browser.Open(t, answer.URL+"/"+hash)
	wantAll(t, late, counted(300))
}

func TestStopEndsTheAnswerForAll(t *testing.T) {
	browser := harness.StartChromium(t)
	answer := harness.Run(t, "./cmd/answer", "-listen", "127.0.0.1:0", "-tokens", "100000")
	tab := browser.Open(t, answer.URL)
	other := browser.Open(t, answer.URL+"/"+ask(t, tab))
	for _, tab := range []*harness.Tab{tab, other} {
		tab.Wait(t, text+`.includes(" 10 ")`)
	}
	tab.Evaluate(t, `document.getElementById("stop").click()`)
	tab.Wait(t, state+` === "complete"`)
	stopped, _ := tab.Evaluate(t, text).(string)
	if want := counted(len(strings.Fields(stopped))); stopped != want {
		t.Errorf("%q, not %q", stopped, want)
	}
	wantAll(t, other, stopped)
}

// A page that is never told of the end would wait for ever.
func TestAProgramThatEndsEndsItsAnswers(t *testing.T) {
	browser := harness.StartChromium(t)
	directory := t.TempDir()
	program := harness.Build(t, "./cmd/answer")
	start := func(address string) *harness.Program {
		return harness.Start(t, "listening on ", program, "-listen", address, "-tokens", "100000",
			"-list", directory+"/list", "-o", "engine=file:"+directory+"/log", "-o", "retry=100ms")
	}
	address := harness.FreeAddress(t)
	for _, how := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		answer := start(address)
		tab := browser.Open(t, answer.URL)
		ask(t, tab)
		tab.Wait(t, text+`.includes(" 10 ")`)
		if err := syscall.Kill(answer.PID(), how); err != nil {
			t.Fatal(err)
		}
		answer.End(t)
		next := start(address)
		tab.Wait(t, state+` === "complete"`)
		stopped, _ := tab.Evaluate(t, text).(string)
		// A program that is killed may lose what its log had not written yet, and the page is told of a gap.
		if want := counted(len(strings.Fields(stopped))); how == syscall.SIGTERM && stopped != want {
			t.Errorf("%q, not %q", stopped, want)
		}
		next.End(t)
		if left, err := os.ReadFile(directory + "/list"); err != nil || len(left) > 0 {
			t.Errorf("%v: %q, %v", how, left, err)
		}
	}
}

func TestTheNumberOfTokensHasOneForm(t *testing.T) {
	for text, want := range map[string]int{"0": 0, "250": 250, "1000000000": mostTokens} {
		if got, err := readTokens(text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "+8", "-8", "008", "0x10", "1_000", " 8", "8 ", "8x", "1000000001", strings.Repeat("9", 30)} {
		if got, err := readTokens(text); err == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
}

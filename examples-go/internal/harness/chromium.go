package harness

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// Chromium is a headless browser, driven over the DevTools protocol.
type Chromium struct {
	conn *websocket.Conn

	mu      sync.Mutex
	last    int
	answers map[int]chan message
	ended   error
}

// Tab is a page with its own cookies, as in a separate browser.
type Tab struct {
	browser *Chromium
	session string
}

type message struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// browserLimit is how long one command may take.
const browserLimit = Patience

// StartChromium starts the browser. The browser ends with the test, and trusts every certificate.
func StartChromium(t testing.TB) *Chromium {
	t.Helper()
	path := findChromium(t)
	profile := t.TempDir()
	command := exec.Command(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--ignore-certificate-errors", "--remote-debugging-port=0", "--user-data-dir="+profile, "about:blank")
	// The browser is many processes, so it gets its own process group.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
		_ = command.Wait()
		// The browser's processes may still write. That must not hold up the removal of the profile.
		for range 1000 {
			if os.RemoveAll(profile) == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	c := &Chromium{answers: map[int]chan message{}}
	c.dial(t, filepath.Join(profile, "DevToolsActivePort"))
	t.Cleanup(func() { c.conn.CloseNow() })
	go c.read()
	return c
}

func findChromium(t testing.TB) string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("needs chromium")
	return ""
}

// dial waits for the file in which the browser writes its address.
func (c *Chromium) dial(t testing.TB, file string) {
	t.Helper()
	var said []string
	WaitFor(t, Patience, "chromium listens", func() bool {
		text, _ := os.ReadFile(file)
		said = strings.Fields(string(text))
		return len(said) == 2
	})
	ctx, cancel := context.WithTimeout(context.Background(), browserLimit)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws://127.0.0.1:"+said[0]+said[1], nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(64 << 20)
	c.conn = conn
}

func (c *Chromium) read() {
	for {
		_, text, err := c.conn.Read(context.Background())
		var m message
		if err == nil {
			err = json.Unmarshal(text, &m)
		}
		c.mu.Lock()
		if err != nil {
			c.ended = err
			for _, answer := range c.answers {
				close(answer)
			}
			c.mu.Unlock()
			return
		}
		if answer, ok := c.answers[m.ID]; ok && m.ID != 0 {
			delete(c.answers, m.ID)
			answer <- m
		}
		c.mu.Unlock()
	}
}

// call runs one command, in a session or without one.
func (c *Chromium) call(session, method string, parameters, result any) error {
	answer := make(chan message, 1)
	c.mu.Lock()
	if c.ended != nil {
		c.mu.Unlock()
		return c.ended
	}
	c.last++
	id := c.last
	c.answers[id] = answer
	c.mu.Unlock()
	request := map[string]any{"id": id, "method": method, "params": parameters}
	if session != "" {
		request["sessionId"] = session
	}
	text, err := json.Marshal(request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), browserLimit)
	defer cancel()
	if err := c.conn.Write(ctx, websocket.MessageText, text); err != nil {
		return err
	}
	select {
	case m, ok := <-answer:
		switch {
		case !ok:
			return fmt.Errorf("%s: the browser has gone", method)
		case m.Error != nil:
			return fmt.Errorf("%s: %s", method, m.Error.Message)
		case result != nil:
			return json.Unmarshal(m.Result, result)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", method, ctx.Err())
	}
}

// Open opens a page in a browser context of its own.
func (c *Chromium) Open(t testing.TB, url string) *Tab {
	t.Helper()
	var opened struct {
		BrowserContextID string `json:"browserContextId"`
		TargetID         string `json:"targetId"`
		SessionID        string `json:"sessionId"`
	}
	must(t, c.call("", "Target.createBrowserContext", map[string]any{}, &opened))
	must(t, c.call("", "Target.createTarget", map[string]any{
		"url": "about:blank", "browserContextId": opened.BrowserContextID, "width": 1100, "height": 760,
	}, &opened))
	must(t, c.call("", "Target.attachToTarget", map[string]any{"targetId": opened.TargetID, "flatten": true}, &opened))
	tab := &Tab{c, opened.SessionID}
	must(t, c.call(tab.session, "Page.enable", map[string]any{}, nil))
	must(t, c.call(tab.session, "Page.navigate", map[string]any{"url": url}, nil))
	tab.Wait(t, `document.readyState === "complete" && location.href !== "about:blank"`)
	return tab
}

// Evaluate runs an expression, waits for it if it is a promise, and returns its value.
func (tab *Tab) Evaluate(t testing.TB, expression string) any {
	t.Helper()
	value, err := tab.evaluate(expression)
	must(t, err)
	return value
}

// evaluate returns an error if the expression throws, or if the page goes meanwhile.
func (tab *Tab) evaluate(expression string) (any, error) {
	var answer struct {
		Result struct {
			Value any `json:"value"`
		} `json:"result"`
		ExceptionDetails *struct {
			Text      string `json:"text"`
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	err := tab.browser.call(tab.session, "Runtime.evaluate", map[string]any{
		"expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true,
	}, &answer)
	if err != nil {
		return nil, err
	}
	if failed := answer.ExceptionDetails; failed != nil {
		return nil, fmt.Errorf("%s: %s %s", expression, failed.Text, failed.Exception.Description)
	}
	return answer.Result.Value, nil
}

// Wait waits until an expression is true. The tab may load its page again meanwhile, or go to another one. Then the
// expression can't be evaluated for a moment, or misses elements of the page.
func (tab *Tab) Wait(t testing.TB, expression string) {
	t.Helper()
	var last error
	defer func() {
		if t.Failed() && last != nil {
			t.Logf("the browser's last answer: %v", last)
		}
	}()
	WaitFor(t, Patience, expression, func() bool {
		value, err := tab.evaluate("Boolean(" + expression + ")")
		last = err
		return value == true
	})
}

// Reload loads the page again, and waits until the old one has gone and the new one is complete.
func (tab *Tab) Reload(t testing.TB) {
	t.Helper()
	tab.Evaluate(t, `window.isBeforeReload = true`)
	must(t, tab.browser.call(tab.session, "Page.reload", map[string]any{}, nil))
	tab.Wait(t, `!window.isBeforeReload && document.readyState === "complete"`)
}

// Type types text into the element with the focus, and presses Enter if the text ends in a line end.
func (tab *Tab) Type(t testing.TB, text string) {
	t.Helper()
	line, enter := strings.CutSuffix(text, "\n")
	must(t, tab.browser.call(tab.session, "Input.insertText", map[string]any{"text": line}, nil))
	if !enter {
		return
	}
	for _, kind := range []string{"keyDown", "keyUp"} {
		must(t, tab.browser.call(tab.session, "Input.dispatchKeyEvent", map[string]any{
			"type": kind, "key": "Enter", "code": "Enter", "text": "\r", "windowsVirtualKeyCode": 13,
		}, nil))
	}
}

// Size changes the size of the window, and the dark mode.
func (tab *Tab) Size(t testing.TB, width, height int, dark bool) {
	t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	must(t, tab.browser.call(tab.session, "Emulation.setDeviceMetricsOverride", map[string]any{
		"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false,
	}, nil))
	must(t, tab.browser.call(tab.session, "Emulation.setEmulatedMedia", map[string]any{
		"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}},
	}, nil))
}

// Header sends a header line with every request of the page from now on.
func (tab *Tab) Header(t testing.TB, name, value string) {
	t.Helper()
	must(t, tab.browser.call(tab.session, "Network.enable", map[string]any{}, nil))
	must(t, tab.browser.call(tab.session, "Network.setExtraHTTPHeaders", map[string]any{
		"headers": map[string]string{name: value},
	}, nil))
}

// Screenshot writes a picture of the page.
func (tab *Tab) Screenshot(t testing.TB, path string) {
	t.Helper()
	var shot struct {
		Data string `json:"data"`
	}
	must(t, tab.browser.call(tab.session, "Page.captureScreenshot", map[string]any{"format": "png"}, &shot))
	picture, err := base64.StdEncoding.DecodeString(shot.Data)
	must(t, err)
	must(t, os.WriteFile(path, picture, 0o644))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

package harness

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Program is a program that runs beside the test.
type Program struct {
	// URL is the program's address, without a slash at the end.
	URL string

	command *exec.Cmd
	said    *lines
	exited  chan struct{}
}

// lines are the lines that a program has printed.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.WriteString(line + "\n")
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Build compiles a package of this module, such as ./cmd/hello.
func Build(t testing.TB, pkg string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), filepath.Base(pkg))
	build := exec.Command("go", append(append([]string{"build", "-o", out}, buildFlags...), pkg)...)
	build.Dir = moduleRoot(t)
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, said)
	}
	return out
}

// moduleRoot is the directory to which names of packages are relative.
func moduleRoot(t testing.TB) string {
	at, err := os.Getwd()
	for err == nil && at != "/" {
		if _, missing := os.Stat(filepath.Join(at, "go.mod")); missing == nil {
			return at
		}
		at = filepath.Dir(at)
	}
	t.Fatal("no go.mod above the test")
	return ""
}

// Run builds a package and starts it on a free port: with `-listen 127.0.0.1:0`, unless there are other arguments. The
// program must print "listening on URL". It ends with the test.
func Run(t testing.TB, pkg string, arguments ...string) *Program {
	t.Helper()
	if len(arguments) == 0 {
		arguments = []string{"-listen", "127.0.0.1:0"}
	}
	return Start(t, "listening on ", Build(t, pkg), arguments...)
}

// Start starts a program, and waits for a line with the given beginning. The rest of that line is its URL.
func Start(t testing.TB, says, path string, arguments ...string) *Program {
	t.Helper()
	p := &Program{command: exec.Command(path, arguments...), said: new(lines), exited: make(chan struct{})}
	// The program must not outlive a test that was killed.
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.command.Stdout, p.command.Stderr = writer, writer
	err = p.command.Start()
	writer.Close()
	if err != nil {
		reader.Close()
		t.Fatalf("%s: %v", path, err)
	}
	t.Cleanup(func() { p.End(t) })

	url := make(chan string, 1)
	go func() {
		defer close(p.exited)
		defer reader.Close()
		scanner := bufio.NewScanner(reader)
		for scanner.Scan() {
			p.said.add(scanner.Text())
			if at, ok := strings.CutPrefix(scanner.Text(), says); ok {
				select {
				case url <- strings.TrimSuffix(at, "/"):
				default:
				}
			}
		}
	}()
	select {
	case p.URL = <-url:
	case <-p.exited:
		t.Fatalf("%s ended at once:\n%s", path, p.said)
	case <-time.After(Patience):
		t.Fatalf("%s does not say where it listens:\n%s", path, p.said)
	}
	return p
}

// PID is the number of the program's process.
func (p *Program) PID() int { return p.command.Process.Pid }

// Said returns the text that the program has printed so far.
func (p *Program) Said() string { return p.said.String() }

// State says how the program has ended.
func (p *Program) State() string { return p.command.ProcessState.String() }

// End ends the program as a user would, with SIGINT, and fails the test if the program crashed.
func (p *Program) End(t testing.TB) {
	if p.command.ProcessState != nil {
		return
	}
	_ = p.command.Process.Signal(syscall.SIGINT)
	killed := time.AfterFunc(Patience, func() { _ = p.command.Process.Kill() })
	_ = p.command.Wait() // SIGINT ends a program that does not handle it
	if !killed.Stop() {
		t.Errorf("%s did not end on SIGINT", filepath.Base(p.command.Path))
	}
	<-p.exited
	for _, bad := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if strings.Contains(p.Said(), bad) {
			t.Errorf("%s: %s\n%s", filepath.Base(p.command.Path), bad, p.Said())
		}
	}
}

package harness

import (
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Redis is a redis-server that runs beside the test, at a socket in a folder of its own.
type Redis struct {
	folder  string
	command *exec.Cmd
}

// StartRedis starts one. It ends with the test.
func StartRedis(t testing.TB) *Redis {
	t.Helper()
	// The path of a Unix socket has at most 107 bytes; that of t.TempDir has the test's name in it.
	folder, err := os.MkdirTemp("", "push-redis")
	if err != nil {
		t.Fatal(err)
	}
	redis := &Redis{folder: folder}
	t.Cleanup(func() {
		redis.Kill()
		os.RemoveAll(folder)
	})
	redis.Start(t)
	return redis
}

// URL is the value for the option engine.
func (r *Redis) URL() string {
	return (&url.URL{Scheme: "redis+unix", Path: r.socket()}).String()
}

func (r *Redis) socket() string { return filepath.Join(r.folder, "redis.sock") }

// Start starts it again, with what it has acknowledged before, and waits until it answers.
func (r *Redis) Start(t testing.TB) {
	t.Helper()
	r.command = exec.Command("redis-server", "--port", "0", "--unixsocket", r.socket(), "--dir", r.folder,
		"--save", "", "--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no")
	if err := r.command.Start(); err != nil {
		t.Fatalf("%v (tests/need redis-server:redis-server installs it)", err)
	}
	for until := time.Now().Add(Patience); !r.answers(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("redis-server does not answer")
		}
	}
}

// While it reads its file it answers with an error.
func (r *Redis) answers() bool {
	conn, err := net.Dial("unix", r.socket())
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(Patience))
	answer := make([]byte, 5)
	_, err = conn.Write([]byte("PING\r\n"))
	if err == nil {
		_, err = conn.Read(answer)
	}
	return err == nil && string(answer) == "+PONG"
}

// Kill ends it as a failing machine would.
func (r *Redis) Kill() {
	if r.command.Process != nil {
		_ = r.command.Process.Kill()
		_ = r.command.Wait()
	}
}

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const serverCPU, loadCPU = "0", "1"

// process is a server that is measured. It runs on one CPU with all its threads, and the load runs on the other.
type process struct {
	url     string
	command *exec.Cmd
}

// startProcess starts a server. The server must print "listening on URL".
func startProcess(program string, arguments ...string) (*process, error) {
	p := &process{command: exec.Command("taskset", append([]string{"-c", serverCPU, program}, arguments...)...)}
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.command.Stderr = os.Stderr
	out, err := p.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	said := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n')
		said <- line
		_, _ = io.Copy(io.Discard, out)
	}()
	select {
	case line := <-said:
		if url, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on "); ok {
			p.url = strings.TrimSuffix(url, "/")
			return p, nil
		}
		p.end()
		return nil, fmt.Errorf("%s said %q", filepath.Base(program), line)
	case <-time.After(10 * time.Second):
		p.end()
		return nil, fmt.Errorf("%s does not say where it listens", filepath.Base(program))
	}
}

func (p *process) port() string {
	return p.url[strings.LastIndexByte(p.url, ':')+1:]
}

// end ends the server. Some servers never end by themselves.
func (p *process) end() {
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
}

// build compiles a package of this module once.
func (o *options) build(name string) (string, error) {
	out := filepath.Join(o.folder, name)
	if _, err := os.Stat(out); err == nil {
		return out, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	said, err := exec.Command("go", "build", "-o", out, "./bench/"+name).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build ./bench/%s: %w\n%s", name, err, said)
	}
	return out, nil
}

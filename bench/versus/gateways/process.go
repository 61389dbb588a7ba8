package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The cores that processes are bound to.
const (
	gatewayCore = "0"
	loadCore    = "1"
)

// process is a program that was started here, and ends by stop. None (nil) takes no time and no memory.
type process struct {
	cmd    *exec.Cmd
	output bytes.Buffer
}

// start runs a program on a core.
func start(core, program string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command("taskset", append([]string{"-c", core, program}, args...)...)}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) stop() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(3*time.Second, func() { _ = p.cmd.Process.Kill() })
	_ = p.cmd.Wait()
	late.Stop()
}

// pids are the process and its children: nginx's workers.
func (p *process) pids() []int {
	all := []int{p.cmd.Process.Pid}
	for i := 0; i < len(all); i++ {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", all[i]))
		for _, t := range tasks {
			children, _ := os.ReadFile(t)
			for _, c := range strings.Fields(string(children)) {
				if pid, err := strconv.Atoi(c); err == nil {
					all = append(all, pid)
				}
			}
		}
	}
	return all
}

// cpu is the processor time that the process and its children have used, as the scheduler counts it.
func (p *process) cpu() (time.Duration, error) {
	var sum time.Duration
	if p == nil {
		return 0, nil
	}
	for _, pid := range p.pids() {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil || len(tasks) == 0 {
			return 0, errors.Join(err, fmt.Errorf("cannot read the processor time of %d", pid))
		}
		for _, t := range tasks {
			text, err := os.ReadFile(t)
			if err != nil {
				continue // a thread that just ended
			}
			ns, _, _ := strings.Cut(string(text), " ")
			n, err := strconv.ParseInt(ns, 10, 64)
			if err != nil {
				return 0, err
			}
			sum += time.Duration(n)
		}
	}
	return sum, nil
}

// memory is the resident set of the process and its children, in bytes.
func (p *process) memory() (sum float64) {
	if p == nil {
		return 0
	}
	for _, pid := range p.pids() {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if f := strings.Fields(string(text)); len(f) > 1 {
			pages, _ := strconv.ParseInt(f[1], 10, 64)
			sum += float64(pages) * float64(os.Getpagesize())
		}
	}
	return sum
}

// freeAddress is an address that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// await waits until somebody listens.
func await(address string) error {
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(end) {
			return err
		}
	}
}

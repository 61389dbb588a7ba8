package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"time"
)

// measureIdle starts a gateway of its own, as memory that was once taken may not come back, and reads how much more
// it takes when many clients have made one request each and stay.
func (r *runner) measureIdle(s scenario, like *running, into *result) (err error) {
	v, why := r.takesPart(like.entry)
	if why != "" {
		return errors.New(why)
	}
	g, err := r.start(v, like.entry)
	if err != nil {
		return err
	}
	defer g.stop()
	for range 20 { // so that what all requests share is there
		if err := r.check(g); err != nil {
			return err
		}
	}
	time.Sleep(r.settle)
	before := g.memory()
	c := exec.Command("taskset", "-c", loadCore, r.self, "load", "idle", "-address", g.listen, "-connections", strconv.Itoa(s.connections))
	stdin, err := c.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stdin.Close(), c.Wait()) }()
	request := g.traffic.request(g.listen)
	if _, err := fmt.Fprintf(stdin, "%d\n%s", len(request), request); err != nil {
		return err
	}
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		return fmt.Errorf("the load did not come to rest: %w", err)
	}
	time.Sleep(r.settle)
	after := g.memory()
	into.add(rssPerConnection, (after-before)/float64(s.connections))
	into.add(rssLoaded, after/mebi)
	return nil
}

// keepIdle makes a request on each of many connections, one after the other, tells so, and keeps them until its input
// ends.
func keepIdle(address string, connections int, in io.Reader, out io.Writer) error {
	input := bufio.NewReader(in)
	var size int
	if _, err := fmt.Fscanf(input, "%d\n", &size); err != nil {
		return err
	}
	request := make([]byte, size)
	if _, err := io.ReadFull(input, request); err != nil {
		return err
	}
	answers := bufio.NewReader(nil)
	for range connections {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write(request); err != nil {
			return err
		}
		answers.Reset(c)
		response, err := http.ReadResponse(answers, nil)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("answered %s", response.Status)
		}
	}
	if _, err := fmt.Fprintln(out, "at rest"); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, input)
	return err
}

package versus

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// fleetLoad asks every node at an even pace, rate requests a second in all, for so long, and gives the times of
// the requests that were admitted, in order, from the first request on. A request that was due is sent as soon as
// a connection is free: the load does not wait for slow answers before it counts the next.
func fleetLoad(t *testing.T, nodes []ask, rate int, long time.Duration) (admitted []time.Duration, asked int) {
	t.Helper()
	const connections = 4 // to each node
	start := time.Now()
	every := time.Second * time.Duration(len(nodes)*connections) / time.Duration(rate)
	var mu sync.Mutex
	var all sync.WaitGroup
	for i, node := range nodes {
		for j := range connections {
			first := every * time.Duration(i*connections+j) / time.Duration(len(nodes)*connections)
			all.Go(func() {
				times, sent, err := askNode(node, start, first, every, long)
				mu.Lock()
				defer mu.Unlock()
				admitted, asked = append(admitted, times...), asked+sent
				if err != nil {
					t.Errorf("%s: %v", node.address, err)
				}
			})
		}
	}
	all.Wait()
	slices.Sort(admitted)
	return admitted, asked
}

// askNode sends requests over one connection. A request counts as admitted at the middle of its way: nobody knows
// better when it was decided.
func askNode(node ask, start time.Time, first, every, long time.Duration) (admitted []time.Duration, asked int, err error) {
	c, err := net.Dial("tcp", node.address)
	if err != nil {
		return nil, 0, err
	}
	defer c.Close()
	in := bufio.NewReader(c)
	for due := first; due < long; due += every {
		time.Sleep(time.Until(start.Add(due)))
		sent := time.Since(start)
		if _, err := c.Write(node.request); err != nil {
			return admitted, asked, err
		}
		response, err := http.ReadResponse(in, nil)
		if err != nil {
			return admitted, asked, err
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return admitted, asked, err
		}
		asked++
		if node.admits(response.StatusCode, body) {
			admitted = append(admitted, (sent+time.Since(start))/2)
		}
	}
	return admitted, asked, nil
}

// excess is how many requests more than limit*time + limit were admitted in the worst span of time, as a share of
// what a second's rate and the burst allow: the measure of every table.
func excess(admitted []time.Duration, limit float64) float64 {
	worst, lowest := 0.0, 0.0
	for i, at := range admitted {
		granted := limit * at.Seconds()
		lowest = min(lowest, float64(i)-granted)
		worst = max(worst, float64(i+1)-granted-lowest-limit)
	}
	return worst / (2 * limit)
}

// steady is how many were admitted a second from a time on, against the limit.
func steady(admitted []time.Duration, from, to time.Duration, limit float64) float64 {
	n := 0
	for _, at := range admitted {
		if at >= from && at < to {
			n++
		}
	}
	return float64(n) / (to - from).Seconds() / limit
}

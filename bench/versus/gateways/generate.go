package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/coder/websocket"
)

// generate is a load generator, as a process of its own. It reads the request from its input, and tells a load as
// JSON.
func generate(args []string) error {
	if len(args) == 0 {
		return errors.New("load: of what kind?")
	}
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	address := flags.String("address", "", "of the gateway")
	connections := flags.Int("connections", 1, "")
	seconds := flags.Int("seconds", 1, "")
	rate := flags.Float64("rate", 0, "requests a second")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	long := time.Duration(*seconds) * time.Second
	var l load
	var err error
	switch args[0] {
	case "open":
		var request []byte
		debug.SetGCPercent(-1) // nothing is allocated once it runs
		if request, err = io.ReadAll(os.Stdin); err == nil {
			l, err = askAtRate(*address, request, *connections, *rate, long)
		}
	case "websocket":
		l, err = exchangeMessages(*address, *connections, long)
	case "idle":
		err = keepIdle(*address, *connections, os.Stdin, os.Stdout)
		return err
	default:
		err = fmt.Errorf("load: unknown kind %q", args[0])
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(l)
}

// newHistogram holds latencies in nanoseconds, from a microsecond to a minute, to three digits.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(time.Microsecond), int64(time.Minute), 3)
}

// tally makes a load of latencies that were measured over a time.
func tally(h *hdrhistogram.Histogram, failed int, long time.Duration) load {
	at := func(percentile float64) float64 { return float64(h.ValueAtQuantile(percentile)) / 1e3 }
	n := int(h.TotalCount())
	return load{Requests: n, Failed: failed, Asked: n + failed, Rate: float64(n) / long.Seconds(), P50: at(50), P99: at(99), P999: at(99.9)}
}

// exchangeMessages sends a message on each connection again as soon as its echo is back.
func exchangeMessages(address string, connections int, long time.Duration) (load, error) {
	ctx, cancel := context.WithTimeout(context.Background(), long+10*time.Second)
	defer cancel()
	var all []*websocket.Conn
	defer func() {
		for _, c := range all {
			_ = c.CloseNow()
		}
	}()
	for range connections {
		c, _, err := websocket.Dial(ctx, "ws://"+address+"/api/echo", nil)
		if err != nil {
			return load{}, err
		}
		all = append(all, c)
	}
	histograms, errs := make([]*hdrhistogram.Histogram, len(all)), make([]error, len(all))
	begin := time.Now()
	var group sync.WaitGroup
	for i, c := range all {
		group.Go(func() {
			histograms[i], errs[i] = exchangeOn(ctx, c, begin.Add(long))
		})
	}
	group.Wait()
	sum := newHistogram()
	for _, h := range histograms {
		sum.Merge(h)
	}
	return tally(sum, 0, time.Since(begin)), errors.Join(errs...)
}

func exchangeOn(ctx context.Context, c *websocket.Conn, end time.Time) (*hdrhistogram.Histogram, error) {
	h := newHistogram()
	for {
		sent := time.Now()
		if sent.After(end) {
			return h, nil
		}
		if err := c.Write(ctx, websocket.MessageText, []byte(smallBody)); err != nil {
			return h, err
		}
		_, message, err := c.Read(ctx)
		if err != nil {
			return h, err
		}
		if len(message) != len(smallBody) {
			return h, fmt.Errorf("an echo of %d bytes", len(message))
		}
		if err := h.RecordValue(int64(time.Since(sent))); err != nil {
			return h, err
		}
	}
}

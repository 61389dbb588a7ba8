package main

import (
	"net"
	"net/http"
	"time"
)

// demoPatience is how long a client of the demo's servers may take over the head of a request.
const demoPatience = 5 * time.Second

// demoServer serves something beside the gateway, on a free port of the loopback.
type demoServer struct {
	address string
	server  *http.Server
	served  chan error
}

// startDemoServer serves what a handler makes that is told its address.
func startDemoServer(handler func(address string) http.Handler) (*demoServer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &demoServer{address: l.Addr().String(), served: make(chan error, 1)}
	s.server = &http.Server{Handler: handler(s.address), ReadHeaderTimeout: demoPatience}
	go func() { s.served <- s.server.Serve(l) }()
	return s, nil
}

// close cuts what is under way: the gateway in front has drained.
func (s *demoServer) close() error {
	err := s.server.Close()
	<-s.served
	return err
}

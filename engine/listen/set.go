// Package listen opens the gateway's sockets, keeps them across reloads and hands them to the next
// process.
//
// A socket belongs to the Set; a server gets a listener that is a descriptor of its own on that socket.
// Whoever closes a listener stops accepting, but the connections that wait in the kernel's queue stay
// there for the next listener on the same socket, be it the next server of this process or the next
// process. That is why neither a reload nor a handover loses a connection.
package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
)

// Set is the open sockets of a process, by address. It is safe for concurrent use. The zero value is a
// set without sockets; a process that may have been started by systemd or by a Handover begins with
// Inherit instead.
type Set struct {
	mu       sync.Mutex
	sockets  []*socket
	parent   *os.File // the pipe on which it waits; nil once it knows, or if there is none
	lending  bool     // a Handover is under way
	isClosed bool
}

// Listen returns a new listener on the socket of the address: one that was inherited or is open already,
// else a new one. Addresses are compared as text, so ":80" and "0.0.0.0:80" are two, and
// "127.0.0.1:0" is one port however often it is asked for.
//
//	":8080", "127.0.0.1:0", "[::1]:80"  TCP
//	"unix:/run/sluice.sock"             a file that every user of the machine may connect to, as to a TCP
//	                                    port: the permissions of its folder are what restricts it. A file
//	                                    that is left over, with no one to answer, is replaced.
//	"unix:@sluice"                      an abstract socket
//	"systemd:web", "systemd:0"          handed in by systemd: FileDescriptorName=, else its number
//
// Closing the listener does not close the socket; Retain and Close do, and close its listeners too.
func (s *Set) Listen(address string) (net.Listener, error) {
	at, err := parse(address)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	listener, err := s.listen(at)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %q: %w", address, err)
	}
	return listener, nil
}

func (s *Set) listen(at place) (net.Listener, error) {
	if s.isClosed {
		return nil, net.ErrClosed
	}
	sock, err := s.find(at)
	if err != nil {
		return nil, err
	}
	if sock == nil {
		if sock, err = open(at); err != nil {
			return nil, err
		}
		s.sockets = append(s.sockets, sock)
	}
	raw, err := sock.listener()
	if err != nil {
		return nil, err
	}
	sock.claimed = true
	l := &listener{Listener: raw, set: s, socket: sock}
	sock.listeners = append(sock.listeners, l)
	return l, nil
}

// find returns the socket at a place, nil if it has yet to be opened.
func (s *Set) find(at place) (*socket, error) {
	name := at.String()
	named := s.where(func(sock *socket) bool { return sock.names[0] == name })
	if len(named) == 0 {
		named = s.where(func(sock *socket) bool { return slices.Contains(sock.names, name) })
	}
	switch {
	case len(named) == 1:
		return named[0], nil
	case len(named) > 1:
		return nil, fmt.Errorf("systemd handed in %d sockets of that name: use their numbers, as in %q",
			len(named), named[0].names[len(named[0].names)-1])
	case at.kind == kindSystemd:
		return nil, errors.New("systemd handed in no socket of that name")
	}
	return nil, nil
}

func (s *Set) where(holds func(*socket) bool) []*socket {
	var found []*socket
	for _, sock := range s.sockets {
		if holds(sock) {
			found = append(found, sock)
		}
	}
	return found
}

// Retain closes the sockets whose address is not listed, with their listeners: what a reload calls when
// the new configuration is live. A systemd socket that is closed cannot be had again. The error is of
// socket files that could not be removed; the sockets are closed all the same.
func (s *Set) Retain(addresses []string) error {
	var names []string
	for _, address := range addresses {
		if at, err := parse(address); err == nil {
			names = append(names, at.String())
		}
	}
	_, err := s.closeWhere(func(sock *socket) bool {
		return !slices.ContainsFunc(sock.names, func(name string) bool { return slices.Contains(names, name) })
	})
	return err
}

// CloseUnclaimed closes the inherited sockets that nobody has asked for and returns their addresses: a
// connection to one of them would wait forever. In a process that was started by a Handover it comes
// after Ready, for until then the parent may still need their files.
func (s *Set) CloseUnclaimed() ([]string, error) {
	return s.closeWhere(func(sock *socket) bool { return !sock.claimed })
}

func (s *Set) closeWhere(holds func(*socket) bool) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	var errs []error
	for _, sock := range s.where(holds) {
		names = append(names, sock.names[0])
		errs = append(errs, sock.close())
	}
	s.sockets = slices.DeleteFunc(s.sockets, holds)
	return names, errors.Join(errs...)
}

// Close stops accepting on all sockets, for good. Files of unix sockets are removed unless another
// process listens on them too: the child after a Handover, the parent before Ready. A parent that still
// waits learns that this process gives up. Connections are not touched.
func (s *Set) Close() error {
	s.mu.Lock()
	s.isClosed = true
	if s.parent != nil {
		s.parent.Close()
		s.parent = nil
	}
	s.mu.Unlock()
	_, err := s.closeWhere(func(*socket) bool { return true })
	return err
}

// listener is one caller's way to accept from a socket.
type listener struct {
	net.Listener
	set    *Set
	socket *socket
}

func (l *listener) Close() error {
	l.set.mu.Lock()
	l.socket.forget(l)
	l.set.mu.Unlock()
	return l.Listener.Close()
}

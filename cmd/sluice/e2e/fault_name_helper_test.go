package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// nameServer is a DNS server that has the same answer to every question for an IPv4 address, and none for
// anything else.
type nameServer struct {
	address string
	asked   atomic.Int64
	mu      sync.Mutex
	trouble nameTrouble
	has     []netip.Addr
}

// nameTrouble is what a name server does instead of its work.
type nameTrouble string

const (
	noTrouble     nameTrouble = ""
	nameFails     nameTrouble = "answers that it failed"
	nameIsUnknown nameTrouble = "answers that there is no such name"
	nameIsSilent  nameTrouble = "does not answer"
)

// startNameServer starts one, on the port that resolvers ask.
func startNameServer(t testing.TB) *nameServer {
	t.Helper()
	host, _, _ := net.SplitHostPort(freeAddress(t))
	socket, err := net.ListenPacket("udp", net.JoinHostPort(host, "53"))
	if err != nil {
		t.Fatal(err)
	}
	n := &nameServer{address: host}
	var serving sync.WaitGroup
	serving.Go(func() { n.serve(socket) })
	t.Cleanup(func() {
		socket.Close()
		serving.Wait()
	})
	return n
}

// set makes the server answer with addresses.
func (n *nameServer) set(trouble nameTrouble, addresses ...netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.trouble, n.has = trouble, addresses
}

func (n *nameServer) serve(socket net.PacketConn) {
	packet := make([]byte, 1500)
	for {
		size, from, err := socket.ReadFrom(packet)
		if err != nil {
			return
		}
		if answer := n.answer(packet[:size]); answer != nil {
			_, _ = socket.WriteTo(answer, from)
		}
	}
}

// answer is what a question gets; nil: nothing.
func (n *nameServer) answer(packet []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(packet) != nil || len(m.Questions) != 1 {
		return nil
	}
	n.asked.Add(1)
	n.mu.Lock()
	defer n.mu.Unlock()
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	switch n.trouble {
	case nameIsSilent:
		return nil
	case nameFails:
		m.RCode = dnsmessage.RCodeServerFailure
	case nameIsUnknown:
		m.RCode = dnsmessage.RCodeNameError
	default:
		for _, a := range n.has {
			if m.Questions[0].Type == dnsmessage.TypeA {
				m.Answers = append(m.Answers, dnsmessage.Resource{
					Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET},
					Body:   &dnsmessage.AResource{A: a.As4()},
				})
			}
		}
	}
	answer, err := m.Pack()
	if err != nil {
		return nil
	}
	return answer
}

// startResolving starts a gateway that asks this name server, in a mount namespace of its own, where
// /etc/resolv.conf is another file.
func (n *nameServer) startResolving(t testing.TB, text string) *gateway {
	t.Helper()
	g := newGateway(t, text)
	file := filepath.Join(g.dir, "resolv.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, "nameserver %s\noptions timeout:1 attempts:1\n", n.address), 0o644); err != nil {
		t.Fatal(err)
	}
	g.through = []string{"unshare", "-m", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, file}
	g.start("GODEBUG=netdns=go")
	return g
}

// needNamespace skips a test where a process cannot have a resolver of its own.
func needNamespace(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may give the gateway a resolv.conf of its own, and a name server its port")
	}
	if out, err := exec.Command("unshare", "-m", "true").CombinedOutput(); err != nil {
		t.Skipf("no mount namespaces here: %v: %s", err, out)
	}
}

// startSiblings starts targets on the same port of as many addresses, a, b, c and so on.
func startSiblings(t testing.TB, count int) (all []*moody, at []netip.Addr, port string) {
	t.Helper()
	first := listenAnywhere(t)
	host, port, _ := net.SplitHostPort(first.Addr().String())
	address := netip.MustParseAddr(host)
	for i := range count {
		l := first
		if i > 0 {
			address = address.Next()
			var err error
			if l, err = net.Listen("tcp", net.JoinHostPort(address.String(), port)); err != nil {
				t.Fatal(err)
			}
		}
		all, at = append(all, startMoodyOn(t, string(rune('a'+i)), l)), append(at, address)
	}
	return all, at, port
}

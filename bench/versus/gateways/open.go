package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strconv"
	"time"
	"unsafe"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// opening is an open-loop load: requests have their times, one interval after the other, and a latency counts from
// that time on, whenever the request could really be sent. So a gateway that stalls pays for all who wait meanwhile
// (Tene's coordinated omission). It is one thread around epoll, without goroutines and timers of the runtime: what it
// adds to a latency is a wake-up.
type opening struct {
	request   []byte
	interval  time.Duration
	lines     []line
	free      []int // lines without a request
	epoll     int
	histogram *hdrhistogram.Histogram
	from      time.Duration // what is due before is not recorded
	asked     int
	failed    int
}

// line is a connection, and the request that is under way on it.
type line struct {
	fd   int
	busy bool
	due  time.Duration
	in   []byte
	have int
}

// askAtRate asks for a while, after half a second (or a tenth of the time) that does not count.
func askAtRate(address string, request []byte, connections int, rate float64, long time.Duration) (load, error) {
	if rate <= 0 || len(request) == 0 {
		return load{}, errors.New("load: neither rate nor request may be empty")
	}
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	warm := min(long/10, time.Second/2)
	o := &opening{request: request, interval: time.Duration(float64(time.Second) / rate), histogram: newHistogram(), from: warm}
	defer o.close()
	if err := o.connect(address, connections); err != nil {
		return load{}, err
	}
	if err := o.ask(warm + long); err != nil {
		return load{}, err
	}
	l := tally(o.histogram, o.failed, long)
	l.Asked = o.asked
	return l, nil
}

func (o *opening) connect(address string, connections int) (err error) {
	to, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		return err
	}
	peer := &unix.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())}
	if o.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	for i := range connections {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		o.lines = append(o.lines, line{fd: fd, in: make([]byte, 64<<10)})
		o.free = append(o.free, i)
		err = errors.Join(unix.Connect(fd, peer), unix.SetNonblock(fd, true), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
			unix.EpollCtl(o.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}))
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *opening) close() {
	for _, l := range o.lines {
		_ = unix.Close(l.fd)
	}
	_ = unix.Close(o.epoll)
}

// ask sends what is due until the end, and waits two seconds more for answers. What is unanswered then has failed.
func (o *opening) ask(end time.Duration) error {
	const patience = 2 * time.Second
	events := make([]unix.EpollEvent, len(o.lines))
	begin := time.Now()
	for due := time.Duration(0); ; {
		now := time.Since(begin)
		for due <= now && due < end && len(o.free) > 0 {
			if err := o.send(due); err != nil {
				return err
			}
			due += o.interval
		}
		if due >= end && len(o.free) == len(o.lines) {
			return nil
		}
		if now > end+patience {
			o.failed += len(o.lines) - len(o.free) + int(max(0, end-due)/o.interval)
			return nil
		}
		idle := 100 * time.Millisecond
		if due < end && len(o.free) > 0 {
			idle = max(0, due-time.Since(begin))
		}
		n, err := wait(o.epoll, events, idle)
		if err != nil {
			return err
		}
		for _, e := range events[:n] {
			if err := o.receive(int(e.Fd), begin); err != nil {
				return err
			}
		}
	}
}

// wait is epoll_pwait2, which takes nanoseconds. The thread has nothing else to do meanwhile, so the runtime need
// not know that it waits.
func wait(epoll int, events []unix.EpollEvent, long time.Duration) (int, error) {
	limit := unix.NsecToTimespec(int64(long))
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(unsafe.Pointer(&limit)), 0, 0)
	if errno == unix.EINTR {
		return 0, nil
	}
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func (o *opening) send(due time.Duration) error {
	i := o.free[len(o.free)-1]
	o.free = o.free[:len(o.free)-1]
	l := &o.lines[i]
	l.busy, l.due, l.have = true, due, 0
	o.asked++
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(l.fd), uintptr(unsafe.Pointer(&o.request[0])), uintptr(len(o.request)))
	if errno != 0 {
		return fmt.Errorf("cannot send: %w", errno)
	}
	if int(n) < len(o.request) {
		return io.ErrShortWrite
	}
	return nil
}

func (o *opening) receive(i int, begin time.Time) error {
	l := &o.lines[i]
	if l.have == len(l.in) {
		return errors.New("an answer is longer than the load can take")
	}
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(l.fd), uintptr(unsafe.Pointer(&l.in[l.have])), uintptr(len(l.in)-l.have))
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return nil
	case errno != 0:
		return fmt.Errorf("cannot receive: %w", errno)
	case n == 0:
		return io.ErrUnexpectedEOF
	case !l.busy:
		return fmt.Errorf("an answer that nobody asked for: %q", l.in[:n])
	}
	l.have += int(n)
	status, whole, err := measureAnswer(l.in[:l.have])
	if err != nil || whole == 0 || l.have < whole {
		return err
	}
	if l.have > whole {
		return fmt.Errorf("%d bytes more than an answer", l.have-whole)
	}
	if latency := time.Since(begin) - l.due; status != 200 {
		o.failed++
	} else if l.due >= o.from {
		if err := o.histogram.RecordValue(int64(latency)); err != nil {
			return err
		}
	}
	l.busy = false
	o.free = append(o.free, i)
	return nil
}

// measureAnswer tells an answer's status and how long all of it is, once its head is there; before that 0.
func measureAnswer(in []byte) (status, whole int, err error) {
	end := bytes.Index(in, []byte("\r\n\r\n"))
	if end < 0 {
		return 0, 0, nil
	}
	if len(in) < 12 || !bytes.HasPrefix(in, []byte("HTTP/1.1 ")) {
		return 0, 0, fmt.Errorf("not an answer: %q", in)
	}
	status = int(in[9]-'0')*100 + int(in[10]-'0')*10 + int(in[11]-'0')
	for rest := in[:end+2]; len(rest) > 0; {
		var field []byte
		field, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		const name = "content-length:"
		if len(field) > len(name) && bytes.EqualFold(field[:len(name)], []byte(name)) {
			size, err := strconv.Atoi(string(bytes.TrimSpace(field[len(name):])))
			return status, end + 4 + size, err
		}
	}
	return status, 0, fmt.Errorf("an answer without Content-Length: %q", in[:end])
}

package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What a process may tell systemd, see sd_notify(3). A state is one or more of these and of "STATUS=text"
// or "MAINPID=number", one a line.
const (
	StateReady     = "READY=1"
	StateReloading = "RELOADING=1"
	StateStopping  = "STOPPING=1"
	StateWatchdog  = "WATCHDOG=1"
)

const (
	envNotify       = "NOTIFY_SOCKET"
	envWatchdogUsec = "WATCHDOG_USEC"
	envWatchdogPID  = "WATCHDOG_PID"

	// notifyTime is how long systemd may take to read a state: it must not stall the gateway.
	notifyTime = time.Second
)

// Notify tells systemd the state of the service; it does nothing in a process that systemd does not listen
// to. The time that systemd wants with StateReloading is added.
func Notify(getenv func(string) string, state string) error {
	path := getenv(envNotify)
	if path == "" {
		return nil
	}
	if err := notify(path, state); err != nil {
		return fmt.Errorf("cannot notify systemd: %w", err)
	}
	return nil
}

func notify(path, state string) error {
	if path[0] != '/' && path[0] != '@' {
		return fmt.Errorf("%s is neither a path nor an abstract socket: %q", envNotify, path)
	}
	if slices.Contains(strings.Split(state, "\n"), StateReloading) {
		now, err := monotonic()
		if err != nil {
			return err
		}
		state += "\nMONOTONIC_USEC=" + strconv.FormatInt(now.Microseconds(), 10)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	_ = conn.SetWriteDeadline(time.Now().Add(notifyTime))
	_, err = conn.Write([]byte(state))
	return errors.Join(err, conn.Close())
}

// monotonic is the kernel's clock since boot, which time.Time keeps to itself.
func monotonic() (time.Duration, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0, os.NewSyscallError("clock_gettime", err)
	}
	return time.Duration(now.Nano()), nil
}

// WatchdogInterval is the longest time that may pass between two StateWatchdog before systemd kills the
// service; half of it is a good pace. It is false if systemd does not watch this process.
func WatchdogInterval(getenv func(string) string) (time.Duration, bool) {
	if pid := getenv(envWatchdogPID); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0, false
	}
	usec, err := strconv.ParseInt(getenv(envWatchdogUsec), 10, 64)
	if err != nil || usec <= 0 {
		return 0, false
	}
	return time.Duration(usec) * time.Microsecond, true
}

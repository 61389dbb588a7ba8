//go:build race

package socket

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// call is call by read(2) and write(2), of which the race detector knows that what is written by one goroutine is read
// by another one afterwards.
func call(trap, fd uintptr, p []byte, flags uintptr) (int, syscall.Errno) {
	p = p[:min(len(p), longest)]
	for {
		var n int
		var err error
		switch {
		case trap == unix.SYS_SENDTO:
			n, err = syscall.Write(int(fd), p) // #nosec G115 -- a descriptor
		case flags&unix.MSG_PEEK == 0:
			n, err = syscall.Read(int(fd), p) // #nosec G115 -- a descriptor
		default:
			_, _, errno := syscall.RawSyscall6(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags|unix.MSG_DONTWAIT, 0, 0) // #nosec G103 -- p outlives the call
			return 0, errno
		}
		switch errno, _ := err.(syscall.Errno); errno {
		case 0:
			return n, 0
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

func look(epoll int, events []unix.EpollEvent) (n int, ok bool) {
	n, err := unix.EpollWait(epoll, events, 0)
	return n, err == nil
}

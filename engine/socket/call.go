//go:build !race

package socket

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// call moves p, at most longest bytes of it, without waiting.
func call(trap, fd uintptr, p []byte, flags uintptr) (int, syscall.Errno) {
	p = p[:min(len(p), longest)]
	for {
		n, _, errno := syscall.RawSyscall6(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags|unix.MSG_DONTWAIT, 0, 0) // #nosec G103 -- p outlives the call
		switch errno {
		case 0:
			return int(n), 0 // #nosec G115 -- at most len(p)
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// look asks an epoll instance what happened, without waiting, and without the scheduler's hearing of it.
func look(epoll int, events []unix.EpollEvent) (n int, ok bool) {
	r, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0) // #nosec G103 G115 -- events outlive the call
	return int(r), errno == 0                                                                                                                                  // #nosec G115 -- at most len(events)
}

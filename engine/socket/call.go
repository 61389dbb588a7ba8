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

package limiter

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// largePages asks the kernel to back a table with large pages: its rows are met in no order, and what
// costs most then is to find out where a page is. A kernel that will not changes nothing else.
func largePages[row any](rows []row) {
	const page = 2 << 20
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(rows))), len(rows)*int(unsafe.Sizeof(rows[0])))
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(bytes))) % page
	if uintptr(len(bytes)) < skip+page {
		return
	}
	whole := (uintptr(len(bytes)) - skip) / page * page
	_ = unix.Madvise(bytes[skip:skip+whole], unix.MADV_HUGEPAGE)
}

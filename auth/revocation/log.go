package revocation

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// maxReports is how many wrong lines are reported one by one each time the log is read.
const maxReports = 10

// log is the file of a File. One goroutine at a time uses it.
type log struct {
	path   string
	list   *List
	report func(error)

	file    *os.File // nil: to be opened
	at      int64    // all before has been read; whole lines
	lines   int      // in what has been read
	bad     int      // of these
	partial bool     // the list lacks entries of the log: never rewrite it from the list
}

// quiet tells whether nobody has touched the log since it was last read to its end.
func (l *log) quiet() bool {
	if l.file == nil {
		return false
	}
	info, err := os.Stat(l.path)
	if err != nil || info.Size() != l.at {
		return false
	}
	mine, err := l.file.Stat()
	return err == nil && os.SameFile(mine, info)
}

// hold takes the lock of the file that has the log's name now, so that nobody else writes or replaces it,
// and reads what is new in it. A caller for whom it does not fail must release it.
func (l *log) hold(now time.Time) error {
	for deadline := time.Now().Add(patience); ; {
		if l.file == nil {
			if err := l.open(); err != nil {
				return err
			}
		}
		err := lock(l.file, deadline)
		current, size := false, int64(0)
		if err == nil {
			size, current, err = l.current()
		}
		if err == nil && current {
			if err = l.read(size, now); err == nil {
				return nil
			}
		}
		l.close() // replaced by another while we waited, or worth a new beginning
		if err != nil {
			return err
		}
	}
}

func (l *log) open() error {
	file, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	l.file, l.at, l.lines, l.bad = file, 0, 0, 0
	if info, err := file.Stat(); err != nil || info.Size() > 0 {
		return err
	}
	return syncFolder(l.path) // it may be new: then its name has to last, too
}

// current tells whether the file that is open still has the log's name, and its size.
func (l *log) current() (size int64, current bool, err error) {
	mine, err := l.file.Stat()
	if err != nil {
		return 0, false, err
	}
	named, err := os.Stat(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	return mine.Size(), err == nil && os.SameFile(mine, named), err
}

// lock waits for the lock of a file until the deadline. It asks again and again, since a wait in the
// kernel has no end.
func lock(file *os.File, deadline time.Time) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("cannot lock it: %w", err)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("another process has held it for %s", patience)
		}
		time.Sleep(pause)
	}
}

func (l *log) release() {
	if l.file != nil {
		_ = unix.Flock(int(l.file.Fd()), unix.LOCK_UN) // closing does it, too
	}
}

func (l *log) close() error {
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

// read puts in force what is new in the log. If it reads it from the beginning, and the list has entries that the
// log lacks, it appends them: somebody has removed, replaced or shortened the log.
func (l *log) read(size int64, now time.Time) error {
	if size < l.at {
		l.at, l.lines, l.bad = 0, 0, 0
	}
	var seen *List
	if l.at == 0 && l.list.Len() > 0 {
		seen = New(Config{MaxEntries: l.list.most})
	}
	from, wrong := l.lines, 0
	complete, rest, err := readLines(io.NewSectionReader(l.file, l.at, size-l.at), func(line []byte) {
		l.lines++
		if err := l.take(line, seen, now); err != nil {
			if wrong++; wrong <= maxReports {
				l.report(fmt.Errorf("line %d of revocations %q is skipped: %w", l.lines, l.path, err))
			}
		}
	})
	if wrong > maxReports {
		l.report(fmt.Errorf("%d lines of revocations %q after line %d are skipped", wrong, l.path, from))
	}
	if err != nil {
		l.lines = from // they are read again
		return err
	}
	l.at += complete
	if err := l.mend(size, rest, seen, now); err != nil {
		return err
	}
	if seen == nil {
		return nil
	}
	return l.restore(seen, now)
}

// restore appends the list's entries that are not among those seen in the log.
func (l *log) restore(seen *List, now time.Time) error {
	var lacking []Entry
	for e := range l.list.Entries(now) {
		if seen.covers(e) {
			continue
		}
		if lacking = append(lacking, e); len(lacking) == 1000 {
			if err := l.append(lacking); err != nil {
				return err
			}
			lacking = lacking[:0]
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	return l.append(lacking)
}

// take puts a line in force.
func (l *log) take(line []byte, seen *List, now time.Time) error {
	e, err := parseLine(line)
	if err != nil {
		l.bad++
		return err
	}
	if _, err = l.list.Add(e, now); err != nil {
		l.partial = true
		return err
	}
	if seen != nil {
		_, err = seen.Add(e, now)
	}
	return err
}

// mend ends the log with a whole line. Whoever wrote the last one is gone: the lock is ours. If only
// its end is missing it counts, else it was never acknowledged.
func (l *log) mend(size int64, rest []byte, seen *List, now time.Time) error {
	if size == l.at {
		return nil
	}
	if _, err := parseLine(rest); err == nil {
		if _, err := l.file.WriteString("\n"); err != nil {
			return err
		}
		l.lines++
		l.at = size + 1
		if err := l.take(rest, seen, now); err != nil {
			l.report(fmt.Errorf("line %d of revocations %q is skipped: %w", l.lines, l.path, err))
		}
		return nil
	}
	l.report(fmt.Errorf("the last %d bytes of revocations %q are dropped: a crash cut them off", size-l.at, l.path))
	return l.file.Truncate(l.at)
}

// append writes entries and waits for the disk. It is held.
func (l *log) append(entries []Entry) error {
	var b []byte
	for _, e := range entries {
		b = appendLine(b, e)
	}
	n, err := l.file.Write(b)
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		if n > 0 {
			_ = l.file.Truncate(l.at) // if this fails too, the next to hold it mends it
		}
		return err
	}
	l.at += int64(n)
	l.lines += len(entries)
	return nil
}

// dead is the number of lines that a rewrite would leave out.
func (l *log) dead(now time.Time) int {
	dead := l.lines
	for range l.list.Entries(now) {
		dead--
	}
	return dead
}

// rewrite replaces the log by one that has the list's entries. It is held, and so is what replaces it.
func (l *log) rewrite(now time.Time) error {
	if l.partial {
		return nil
	}
	fresh := &log{path: l.path + ".new", list: l.list}
	defer func() { fresh.close() }()
	if err := fresh.fill(l.file, now); err != nil {
		return fmt.Errorf("cannot rewrite revocations %q: %w", l.path, err)
	}
	if l.bad > 0 {
		_ = os.Link(l.path, l.path+".bad") // kept for people, if there is none yet
	}
	if err := os.Rename(fresh.path, l.path); err != nil {
		return fmt.Errorf("cannot rewrite revocations %q: %w", l.path, err)
	}
	old := l.file
	l.file, l.at, l.lines, l.bad = fresh.file, fresh.at, fresh.lines, 0
	fresh.file = nil
	old.Close()
	return syncFolder(l.path)
}

// fill makes the file, locks it before it can have the log's name, and writes the list's entries to it.
func (l *log) fill(like *os.File, now time.Time) (err error) {
	// What a crash left is not written to again: its lock may be another's.
	if err := os.Remove(l.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if l.file, err = os.OpenFile(l.path, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600); err != nil {
		return err
	}
	if err := lock(l.file, time.Now()); err != nil {
		return err
	}
	if err := sameOwner(l.file, like); err != nil {
		return err
	}
	var b bytes.Buffer
	flush := func() error {
		n, err := b.WriteTo(l.file)
		l.at += n
		return err
	}
	for e := range l.list.Entries(now) {
		b.Write(appendLine(b.AvailableBuffer(), e))
		l.lines++
		if b.Len() >= 1<<16 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	return l.file.Sync()
}

// sameOwner gives a file to the owner of another, so that a command that root runs takes the log from nobody.
func sameOwner(file, like *os.File) error {
	var mine, theirs unix.Stat_t
	if err := errors.Join(unix.Fstat(int(file.Fd()), &mine), unix.Fstat(int(like.Fd()), &theirs)); err != nil {
		return err
	}
	if mine.Uid == theirs.Uid && mine.Gid == theirs.Gid {
		return nil
	}
	return file.Chown(int(theirs.Uid), int(theirs.Gid))
}

// syncFolder makes the name of a file last.
func syncFolder(path string) error {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}

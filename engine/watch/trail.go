package watch

import (
	"os"
	"path/filepath"
	"strings"
)

// maxLinks is how many symbolic links a path may take, as in the kernel.
const maxLinks = 40

// trail lists the folder entries that decide what file is: every symbolic link on the way and the entry at
// the end, or the first one that is missing. The folders of the entries exist and contain no link, so
// that two paths to one folder are one watch. file must be absolute.
func trail(file string) []string {
	var entries []string
	at, ahead := "/", split(file)
	for links := 0; len(ahead) > 0 && links <= maxLinks; {
		name := ahead[0]
		ahead = ahead[1:]
		if name == ".." {
			at = filepath.Dir(at)
			continue
		}
		entry := filepath.Join(at, name)
		info, err := os.Lstat(entry)
		switch {
		case err != nil:
			return append(entries, entry)
		case info.Mode()&os.ModeSymlink != 0:
			entries = append(entries, entry)
			target, err := os.Readlink(entry)
			if err != nil {
				return entries
			}
			if filepath.IsAbs(target) {
				at = "/"
			}
			ahead = append(split(target), ahead...)
			links++
		case len(ahead) == 0:
			return append(entries, entry)
		default:
			at = entry
		}
	}
	return entries
}

// split cuts path into names; a ".." stays, for after a link it is not what the text before it says.
func split(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

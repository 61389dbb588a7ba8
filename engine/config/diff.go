package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// ChangeKind says what happened to a key.
type ChangeKind string

// The kinds of a Change.
const (
	Added   ChangeKind = "added"
	Removed ChangeKind = "removed"
	Changed ChangeKind = "changed"
)

// Change is one difference in meaning between two configurations.
type Change struct {
	Key  string // dotted; elements of [[route]] and [[limit]] go by name: route.users.timeout
	Kind ChangeKind
	Old  string // as TOML would write it, a secret as "(secret)"; empty when the key was added, or is a table
	New  string // the same, empty when the key was removed
}

// Diff lists what differs between two loaded configurations, in the order of the manual; order among routes and the
// folder that the files are in do not count. A table that is only on one side is one Change.
func Diff(old, new *File) []Change {
	d := differ{oldFolder: old.source.folder, newFolder: new.source.folder}
	d.compare(reflect.ValueOf(*old), reflect.ValueOf(*new), "", "")
	return d.changes
}

type differ struct {
	oldFolder, newFolder string
	changes              []Change
}

// compare walks two values of one type. The kind is that of the field's tag.
func (d *differ) compare(old, new reflect.Value, key, kind string) {
	switch {
	case isLeaf(old.Type()):
		d.compareLeaf(old, new, key, kind)
	case old.Kind() == reflect.Struct:
		for _, f := range tableFields(old.Type()) {
			d.compare(old.FieldByIndex(f.Index), new.FieldByIndex(f.Index), childKey(key, f.Tag.Get("toml")), f.Tag.Get("kind"))
		}
	case old.Kind() == reflect.Pointer:
		switch {
		case old.IsNil() && new.IsNil():
		case old.IsNil():
			d.changes = append(d.changes, Change{Key: key, Kind: Added})
		case new.IsNil():
			d.changes = append(d.changes, Change{Key: key, Kind: Removed})
		default:
			d.compare(old.Elem(), new.Elem(), key, "")
		}
	default:
		d.compareByName(byName(old), byName(new), key)
	}
}

// isLeaf reports whether a value is shown whole, not key by key.
func isLeaf(t reflect.Type) bool {
	if t.Kind() == reflect.Slice {
		return !isNamed(t.Elem())
	}
	return isScalar(t)
}

// isNamed reports whether the elements of a list have names, which then stand for their indexes.
func isNamed(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return false
	}
	_, ok := t.FieldByName("Name")
	return ok
}

func (d *differ) compareLeaf(old, new reflect.Value, key, kind string) {
	before, after := render(old, d.oldFolder, kind), render(new, d.newFolder, kind)
	secret, isSecret := old.Interface().(Secret)
	if before != after || isSecret && secret.Reveal() != new.Interface().(Secret).Reveal() {
		d.changes = append(d.changes, Change{Key: key, Kind: Changed, Old: before, New: after})
	}
}

// byName gives the elements of a map or of a list of named tables.
func byName(v reflect.Value) map[string]reflect.Value {
	elements := make(map[string]reflect.Value, v.Len())
	for key, element := range v.Seq2() {
		if v.Kind() == reflect.Map {
			elements[key.String()] = element
			continue
		}
		table := reflect.Indirect(element)
		elements[table.FieldByName("Name").String()] = table
	}
	return elements
}

func (d *differ) compareByName(old, new map[string]reflect.Value, key string) {
	all := make(map[string]bool)
	for name := range old {
		all[name] = true
	}
	for name := range new {
		all[name] = true
	}
	for _, name := range sortedKeys(all) {
		before, inOld := old[name]
		after, inNew := new[name]
		entry := childKey(key, name)
		switch {
		case inOld && inNew:
			d.compare(before, after, entry, "")
		case inOld:
			d.changes = append(d.changes, Change{Key: entry, Kind: Removed, Old: summary(before, d.oldFolder)})
		default:
			d.changes = append(d.changes, Change{Key: entry, Kind: Added, New: summary(after, d.newFolder)})
		}
	}
}

// summary shows a value that is on one side only; a table shows by its key alone.
func summary(v reflect.Value, folder string) string {
	if isLeaf(v.Type()) {
		return render(v, folder, "")
	}
	return ""
}

// render writes a value as TOML would. File names lose the folder that resolvePaths put before them.
func render(v reflect.Value, folder, kind string) string {
	switch {
	case v.Kind() == reflect.Slice:
		elements := make([]string, v.Len())
		for i := range elements {
			elements[i] = render(v.Index(i), folder, kind)
		}
		return "[" + strings.Join(elements, ", ") + "]"
	case !isScalar(v.Type()):
		var pairs []string
		for _, f := range tableFields(v.Type()) {
			pairs = append(pairs, f.Tag.Get("toml")+" = "+render(v.FieldByIndex(f.Index), folder, f.Tag.Get("kind")))
		}
		return "{ " + strings.Join(pairs, ", ") + " }"
	}
	text, ok := plain(v).(string)
	if !ok {
		return fmt.Sprint(plain(v))
	}
	return strconv.Quote(unresolved(text, folder, kind))
}

// unresolved undoes resolvePath.
func unresolved(text, folder, kind string) string {
	for _, prefix := range []string{"", "unix:"} {
		path, ok := strings.CutPrefix(text, prefix+folder+string(filepath.Separator))
		if ok && resolvePath(prefix+path, folder, kind) == text {
			return prefix + path
		}
	}
	return text
}

// plain gives a scalar as the string, number or boolean that the file has for it; a secret only says that it is one.
func plain(v reflect.Value) any {
	switch value := v.Interface().(type) {
	case time.Duration:
		return formatDuration(value)
	case *url.URL:
		if value == nil {
			return ""
		}
		return value.String()
	case fmt.Stringer:
		return value.String()
	}
	return v.Interface()
}

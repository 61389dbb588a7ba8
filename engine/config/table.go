package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// tableFields lists the fields of a table's struct that stand for keys.
func tableFields(t reflect.Type) []reflect.StructField {
	return slices.DeleteFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool {
		return f.Tag.Get("toml") == ""
	})
}

// table reads a table into its struct, which has its defaults already.
func (l *loader) table(dst reflect.Value, raw map[string]any, key string) {
	fields := tableFields(dst.Type())
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Tag.Get("toml")
		l.field(dst.FieldByIndex(f.Index), raw, childKey(key, names[i]), f.Tag)
	}
	for _, name := range sortedKeys(raw) {
		if !slices.Contains(names, name) {
			l.suggest(childKey(key, name), nearest(name, names), "unknown key")
		}
	}
}

func (l *loader) field(dst reflect.Value, table map[string]any, key string, tag reflect.StructTag) {
	raw, written := table[tag.Get("toml")]
	faults := len(l.faults)
	if written {
		l.value(dst, raw, key, tag)
	}
	if tag.Get("required") == "" || !isEmpty(dst) || len(l.faults) > faults {
		return
	}
	if written {
		l.fault(key, "must not be empty: %s", tag.Get("doc"))
	} else {
		l.fault(key, "missing: %s", tag.Get("doc"))
	}
}

func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	}
	return v.IsZero()
}

// value reads whatever a key holds. The tag is that of the field; it speaks of each element of a list and of a map.
func (l *loader) value(dst reflect.Value, raw any, key string, tag reflect.StructTag) {
	_, isTarget := dst.Interface().(Target)
	_, isText := raw.(string)
	switch {
	case isTarget && isText:
		l.scalar(dst.FieldByName("URL"), raw, key, "")
	case isScalar(dst.Type()):
		l.scalar(dst, raw, key, tag)
	case dst.Kind() == reflect.Slice:
		l.list(dst, raw, key, tag)
	case dst.Kind() == reflect.Map:
		l.dictionary(dst, raw, key, tag)
	default:
		l.nested(dst, raw, key)
	}
}

// nested reads a table inside a table; one behind a pointer comes into being here.
func (l *loader) nested(dst reflect.Value, raw any, key string) {
	table, ok := raw.(map[string]any)
	if !ok {
		l.wrongType(dst.Type(), raw, key)
		return
	}
	if dst.Kind() == reflect.Pointer {
		dst.Set(newTable(dst.Type()))
		dst = dst.Elem()
	}
	l.table(dst, table, key)
}

// newTable makes a struct with its defaults and gives the pointer to it.
func newTable(pointer reflect.Type) reflect.Value {
	p := reflect.New(pointer.Elem())
	setDefaults(p.Elem())
	return p
}

// list replaces a list. It is as long as the file's, so that indexes agree, even where an element is faulty.
func (l *loader) list(dst reflect.Value, raw any, key string, tag reflect.StructTag) {
	elements, ok := rawList(raw)
	if !ok {
		l.wrongType(dst.Type(), raw, key)
		return
	}
	dst.Set(reflect.MakeSlice(dst.Type(), len(elements), len(elements)))
	for i, element := range elements {
		l.element(dst.Index(i), element, elementKey(key, i), tag)
	}
}

func rawList(raw any) (elements []any, ok bool) {
	switch raw := raw.(type) {
	case []any:
		return raw, true
	case []map[string]any:
		for _, table := range raw {
			elements = append(elements, table)
		}
		return elements, true
	}
	return nil, false
}

// dictionary replaces a map whose keys the user chose.
func (l *loader) dictionary(dst reflect.Value, raw any, key string, tag reflect.StructTag) {
	table, ok := raw.(map[string]any)
	if !ok {
		l.wrongType(dst.Type(), raw, key)
		return
	}
	dst.Set(reflect.MakeMapWithSize(dst.Type(), len(table)))
	for _, name := range sortedKeys(table) {
		entry := childKey(key, name)
		if message, guess := checkKind(tag.Get("kind"), name); message != "" {
			l.suggest(entry, guess, "%s", message)
		}
		element := reflect.New(dst.Type().Elem()).Elem()
		l.element(element, table[name], entry, withoutKind(tag))
		dst.SetMapIndex(reflect.ValueOf(name), element)
	}
}

// element reads one element of a list or map; a table that cannot be read is left with its defaults, never nil.
func (l *loader) element(dst reflect.Value, raw any, key string, tag reflect.StructTag) {
	if dst.Kind() == reflect.Pointer && !isScalar(dst.Type()) {
		dst.Set(newTable(dst.Type()))
	} else {
		setDefaults(dst)
	}
	l.value(dst, raw, key, tag)
}

// withoutKind is the tag for the values of a map, as a kind speaks of its keys.
func withoutKind(tag reflect.StructTag) reflect.StructTag {
	return reflect.StructTag(strings.Replace(string(tag), ` kind:"`, ` keys:"`, 1))
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}

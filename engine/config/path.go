package config

import (
	"path/filepath"
	"reflect"
	"strings"
)

// resolvePaths makes the file names in a table start at a folder. It goes over defaults too.
func resolvePaths(v reflect.Value, folder, kind string) {
	switch v.Kind() {
	case reflect.String:
		if kind != "" {
			v.SetString(resolvePath(v.String(), folder, kind))
		}
	case reflect.Pointer:
		if !v.IsNil() && !isScalar(v.Type()) {
			resolvePaths(v.Elem(), folder, "")
		}
	case reflect.Struct:
		for _, f := range tableFields(v.Type()) {
			resolvePaths(v.FieldByIndex(f.Index), folder, f.Tag.Get("kind"))
		}
	case reflect.Slice:
		for i := range v.Len() {
			resolvePaths(v.Index(i), folder, kind)
		}
	case reflect.Map:
		if v.Type().Elem().Kind() == reflect.Pointer {
			for _, element := range v.Seq2() {
				resolvePaths(element, folder, "")
			}
		}
	}
}

// resolvePath makes one string start at a folder if it is a relative file name, which depends on its kind.
func resolvePath(text, folder, kind string) string {
	prefix, path := "", text
	switch kind {
	case "path":
	case "log":
		if text == "stdout" || text == "off" {
			return text
		}
	case "url-or-path":
		if strings.Contains(text, "://") {
			return text
		}
	case "listen":
		var isSocket bool
		if path, isSocket = strings.CutPrefix(text, "unix:"); !isSocket {
			return text
		}
		prefix = "unix:"
	default:
		return text
	}
	if path == "" || filepath.IsAbs(path) {
		return text
	}
	return prefix + filepath.Join(folder, path)
}

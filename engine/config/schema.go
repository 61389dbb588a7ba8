package config

import (
	"encoding/json"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Schema gives a JSON schema (draft 2020-12) of gateway.toml, for editors and other checkers. It knows tables, keys,
// types, words and bounds; what one key demands of another only Load knows.
func Schema() ([]byte, error) {
	g := schemaGenerator{defs: make(map[string]*schema)}
	root := g.table(reflect.TypeFor[File]())
	root.Dialect = "https://json-schema.org/draft/2020-12/schema"
	root.Title = "gateway.toml"
	root.Defs = g.defs
	data, err := json.MarshalIndent(root, "", "  ")
	return append(data, '\n'), err
}

// schema is one node of the output, with the keywords we use in the order they are printed.
type schema struct {
	Dialect       string             `json:"$schema,omitempty"`
	Title         string             `json:"title,omitempty"`
	Description   string             `json:"description,omitempty"`
	Ref           string             `json:"$ref,omitempty"`
	Type          string             `json:"type,omitempty"`
	Enum          []string           `json:"enum,omitempty"`
	Pattern       string             `json:"pattern,omitempty"`
	Minimum       *float64           `json:"minimum,omitempty"`
	Maximum       *float64           `json:"maximum,omitempty"`
	MinLength     int                `json:"minLength,omitempty"`
	MinItems      int                `json:"minItems,omitempty"`
	MinProperties int                `json:"minProperties,omitempty"`
	Default       any                `json:"default,omitempty"`
	AnyOf         []*schema          `json:"anyOf,omitempty"`
	Items         *schema            `json:"items,omitempty"`
	Properties    map[string]*schema `json:"properties,omitempty"`
	PropertyNames *schema            `json:"propertyNames,omitempty"`
	Required      []string           `json:"required,omitempty"`
	Additional    any                `json:"additionalProperties,omitempty"` // false, or the schema of all values
	Defs          map[string]*schema `json:"$defs,omitempty"`
}

// schemaGenerator gathers the tables it meets, each once.
type schemaGenerator struct {
	defs map[string]*schema
}

// table describes a struct by its fields' tags and by what setDefaults gives them.
func (g *schemaGenerator) table(t reflect.Type) *schema {
	node := &schema{Type: "object", Properties: make(map[string]*schema), Additional: false}
	defaults := reflect.New(t).Elem()
	setDefaults(defaults)
	for _, f := range tableFields(t) {
		name, value := f.Tag.Get("toml"), defaults.FieldByIndex(f.Index)
		field := g.value(f.Type, f.Tag)
		field.Description = f.Tag.Get("doc")
		if isScalar(f.Type) || f.Type == reflect.TypeFor[[]string]() {
			field.Default = defaultOf(value)
		}
		if f.Tag.Get("required") != "" {
			notEmpty(field)
			if isEmpty(value) {
				node.Required = append(node.Required, name)
			}
		}
		node.Properties[name] = field
	}
	return node
}

// defaultOf gives a default as the file would write it. It gives nil for a zero value, as that may stand for
// "absent": what it means is in the description.
func defaultOf(v reflect.Value) any {
	if isEmpty(v) {
		return nil
	}
	if v.Kind() == reflect.Slice {
		return v.Interface()
	}
	return plain(v)
}

func notEmpty(node *schema) {
	switch node.Type {
	case "string":
		node.MinLength = 1
	case "array":
		node.MinItems = 1
	case "object":
		node.MinProperties = 1
	}
}

func (g *schemaGenerator) value(t reflect.Type, tag reflect.StructTag) *schema {
	switch {
	case isScalar(t):
		return scalarSchema(t, tag)
	case t == reflect.TypeFor[Target]():
		address := scalarSchema(reflect.TypeFor[*url.URL](), "")
		return &schema{AnyOf: []*schema{address, g.reference(t)}}
	case t.Kind() == reflect.Slice:
		return &schema{Type: "array", Items: g.value(t.Elem(), tag)}
	case t.Kind() == reflect.Map:
		node := &schema{Type: "object", Additional: g.value(t.Elem(), withoutKind(tag))}
		if pattern := kindPattern(tag.Get("kind")); pattern != "" {
			node.PropertyNames = &schema{Pattern: pattern}
		}
		return node
	case t.Kind() == reflect.Pointer:
		return g.reference(t.Elem())
	}
	return g.reference(t)
}

func (g *schemaGenerator) reference(t reflect.Type) *schema {
	if g.defs[t.Name()] == nil {
		g.defs[t.Name()] = g.table(t)
	}
	return &schema{Ref: "#/$defs/" + t.Name()}
}

func scalarSchema(t reflect.Type, tag reflect.StructTag) *schema {
	if isText(t) {
		node := &schema{Type: "string", Pattern: textPattern(t)}
		if enum, ok := tag.Lookup("enum"); ok {
			enumSchema(node, enum)
		} else if node.Pattern == "" {
			node.Pattern = kindPattern(tag.Get("kind"))
		}
		return node
	}
	if t.Kind() == reflect.Bool {
		return &schema{Type: "boolean"}
	}
	node := &schema{Type: "integer", Minimum: bound(tag, "min"), Maximum: bound(tag, "max")}
	if t.Kind() == reflect.Float64 {
		node.Type = "number"
	}
	return node
}

func bound(tag reflect.StructTag, name string) *float64 {
	text, ok := tag.Lookup(name)
	if !ok {
		return nil
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		panic("BUG: tag of a number: bound " + text)
	}
	return &n
}

// enumSchema writes an enum as it is, or as a pattern where a word takes a NAME.
func enumSchema(node *schema, enum string) {
	words := strings.Split(enum, "|")
	if !strings.Contains(enum, ":") {
		node.Enum = words
		return
	}
	for i, word := range words {
		words[i] = regexp.QuoteMeta(word)
		if strings.HasSuffix(word, ":") {
			words[i] += ".+"
		}
	}
	node.Pattern = "^(" + strings.Join(words, "|") + ")$"
}

// textPattern is the syntax of a type that is written as a string.
func textPattern(t reflect.Type) string {
	const duration = `([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+`
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "^(0|" + duration + ")$"
	case reflect.TypeFor[Size]():
		return `^[0-9]+(KiB|MiB|GiB|TiB)?$`
	case reflect.TypeFor[Rate]():
		return "^[0-9]+/(s|min|h|d|" + duration + ")$"
	case reflect.TypeFor[StatusRange]():
		return `^[1-5][0-9][0-9](-[1-5][0-9][0-9])?$`
	case reflect.TypeFor[netip.Prefix]():
		return `^[0-9a-fA-F.:]+/[0-9]+$`
	case reflect.TypeFor[*url.URL]():
		return `^https?://[^/?#@]+/?$`
	}
	return ""
}

// kindPattern is as much of a kind's syntax as a pattern can tell; the empty string passes where nothing is required.
func kindPattern(kind string) string {
	switch kind {
	case "name":
		return `^[A-Za-z0-9._-]+$`
	case "header", "own-header", "method":
		return "^[A-Za-z0-9!#$%&'*+.^_`|~-]*$"
	case "listen":
		return `^$|^unix:.+|^systemd:.+|^.*:[0-9]+$`
	case "address", "peer":
		return `^$|^.*:[0-9]+$`
	case "url":
		return `^$|^https?://.+`
	case "route-path":
		return `^$|^/`
	}
	return ""
}

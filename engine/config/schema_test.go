package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "write gateway.schema.json anew")

func TestSchemaFileIsUpToDate(t *testing.T) {
	want, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("gateway.schema.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(readFile(t, "gateway.schema.json"), want) {
		t.Error("gateway.schema.json is not what Schema gives: run go test ./engine/config -update")
	}
}

func TestSchemaAcceptsGoodFiles(t *testing.T) {
	paths, _ := filepath.Glob("testdata/good/*.toml")
	for _, path := range append(paths, "testdata/contract.toml") {
		if err := validate(t, string(readFile(t, path))); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	for _, row := range []struct{ intent, text string }{
		{"an unknown key", "[server]\ndrian = \"1s\""},
		{"an unknown table", "[sever]"},
		{"an unknown key of a named table", "[upstream.a]\ntargets = [\"http://a\"]\nballance = \"hash\""},
		{"a number for a duration", "[server]\ndrain = 30"},
		{"a duration without a unit", "[server]\ndrain = \"30\""},
		{"a decimal size", "[server]\nmax_body_bytes = \"10MB\""},
		{"a word that is none of the words", "[log]\nformat = \"xml\""},
		{"a NAME that is missing", "[defaults]\nauth = [\"jwt:\"]"},
		{"a number out of bounds", "[server]\nipv6_prefix = 129"},
		{"a route without a destination", "[[route]]\nname = \"a\"\npath = \"/\""},
		{"a target that is no URL", "[upstream.a]\ntargets = [\"10.0.0.1:80\"]"},
		{"a name with a space", "[upstream.\"a b\"]\ntargets = [\"http://a\"]"},
		{"a header that is no token", "[switch.a]\nheader = \"X Y\"\ncases = { a = \"b\" }"},
	} {
		if validate(t, row.text) == nil {
			t.Errorf("accepted %s", row.intent)
		}
	}
}

// validate holds a TOML text against the schema, by way of JSON.
func validate(t *testing.T, text string) error {
	t.Helper()
	raw := make(map[string]any)
	if _, err := toml.Decode(text, &raw); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(raw)
	if err != nil {
		t.Fatal(err)
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(readFile(t, "gateway.schema.json")))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("gateway.schema.json", document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("gateway.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(instance)
}

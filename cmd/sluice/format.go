package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// The values of --format.
const (
	formatText = "text"
	formatJSON = "json"
)

// addFormat gives a verb the flag --format.
func addFormat(cmd *cobra.Command) *string {
	return cmd.Flags().String("format", formatText, "how to print: text or json")
}

func checkFormat(cmd *cobra.Command, format string) error {
	if format != formatText && format != formatJSON {
		return usageError{cmd.CommandPath(), fmt.Errorf("--format is text or json, not %q", format)}
	}
	return nil
}

func printJSON(out io.Writer, v any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/engine"
	"github.com/sluice-gateway/sluice/engine/config"
)

func newCheck(path *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Tell every fault of a configuration",
		Long: `Check does all that a start or reload does with a configuration, short of
listening: it reads certificates and secrets, and compiles the routes.

It prints every fault with its line, and exits 1 if there is one.`,
		Example: `  sluice check
  sluice check -c /etc/sluice/gateway.toml --format json`,
		Args: usage(cobra.NoArgs),
	}
	format := addFormat(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkFormat(cmd, *format); err != nil {
			return err
		}
		if *format == formatJSON {
			return checkAsJSON(cmd.OutOrStdout(), *path)
		}
		return check(cmd.OutOrStdout(), *path)
	}
	return cmd
}

func check(out io.Writer, path string) error {
	if err := engine.Check(path).Err(); err != nil {
		return err
	}
	file, faults := config.Load(path)
	if err := faults.Err(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "%s: ok (%s, %s)\n", path, count(len(file.Route), "route"), count(len(file.Upstream), "upstream"))
	return err
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// faultJSON is a config.Fault as --format json prints it.
type faultJSON struct {
	File       string `json:"file"`
	Line       int    `json:"line"`
	Column     int    `json:"column"`
	Key        string `json:"key,omitempty"`
	Message    string `json:"message"`
	Suggestion string `json:"suggestion,omitempty"`
}

func checkAsJSON(out io.Writer, path string) error {
	faults := engine.Check(path)
	report := struct {
		File   string      `json:"file"`
		OK     bool        `json:"ok"`
		Faults []faultJSON `json:"faults"`
	}{path, len(faults) == 0, []faultJSON{}}
	for _, f := range faults.Sorted() {
		report.Faults = append(report.Faults, faultJSON(f))
	}
	if err := printJSON(out, report); err != nil {
		return err
	}
	if !report.OK {
		return errTold
	}
	return nil
}

package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printVersion(cmd.OutOrStdout(), version, buildSettings())
		},
	}
}

// buildSettings are those of go version -m.
func buildSettings() map[string]string {
	settings := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
	}
	return settings
}

func printVersion(out io.Writer, version string, settings map[string]string) error {
	_, err := fmt.Fprintf(out, "sluice %s\n%s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if revision := settings["vcs.revision"]; revision != "" && err == nil {
		changed := ""
		if settings["vcs.modified"] == "true" {
			changed = ", and changes"
		}
		_, err = fmt.Fprintf(out, "commit %s of %s%s\n", revision, settings["vcs.time"], changed)
	}
	return err
}

package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/engine"
	"github.com/sluice-gateway/sluice/engine/config"
)

func newDiff() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Show what a reload would change",
		Long: `Diff compares two configurations by meaning: comments, order and notation do not
count. It also tells which upstreams keep their connections, and which keys only
a restart makes live.

Both files are checked first; it exits 1 if one has faults.`,
		Example: `  sluice diff /etc/sluice/gateway.toml gateway.toml
  sluice diff --exit-code old.toml new.toml || echo "something to deploy"`,
		Args: usage(cobra.ExactArgs(2)),
	}
	exitCode := cmd.Flags().Bool("exit-code", false, "exit 1 if there is a difference")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		old, err := loadSound(args[0])
		if err != nil {
			return err
		}
		new, err := loadSound(args[1])
		if err != nil {
			return err
		}
		changes := config.Diff(old, new)
		out := cmd.OutOrStdout()
		printDiff(out, stylesFor(out, os.Getenv), old, new, changes)
		if *exitCode && len(changes) > 0 {
			return errTold
		}
		return nil
	}
	return cmd
}

func loadSound(path string) (*config.File, error) {
	if err := engine.Check(path).Err(); err != nil {
		return nil, err
	}
	file, faults := config.Load(path)
	return file, faults.Err()
}

func printDiff(out io.Writer, s styles, old, new *config.File, changes []config.Change) {
	if len(changes) == 0 {
		fmt.Fprintln(out, "no changes")
		return
	}
	groups := []struct {
		kind  config.ChangeKind
		sign  string
		style style
	}{
		{config.Added, "+", s.good},
		{config.Removed, "-", s.bad},
		{config.Changed, "~", s.strong},
	}
	for _, g := range groups {
		for _, c := range changes {
			if c.Kind == g.kind {
				fmt.Fprintf(out, "%s %s%s\n", g.style.text(g.sign), c.Key, values(c))
			}
		}
	}
	fmt.Fprintln(out)
	printUpstreams(out, old, new, changes)
	if keys := needRestart(changes); len(keys) > 0 {
		fmt.Fprintln(out, "need a restart:    ", strings.Join(keys, ", "))
	}
}

// values shows what a key had and has; a whole table shows by its key alone.
func values(c config.Change) string {
	switch {
	case c.Old == "" && c.New == "":
		return ""
	case c.Kind == config.Changed:
		return " = " + c.Old + " -> " + c.New
	}
	return " = " + c.Old + c.New
}

// printUpstreams tells whose connections a reload keeps: those of upstreams of which nothing changed.
func printUpstreams(out io.Writer, old, new *config.File, changes []config.Change) {
	var kept, rebuilt []string
	for _, name := range slices.Sorted(maps.Keys(new.Upstream)) {
		switch {
		case old.Upstream[name] == nil:
		case slices.ContainsFunc(changes, func(c config.Change) bool { return isWithin(c.Key, "upstream", name) }):
			rebuilt = append(rebuilt, name)
		default:
			kept = append(kept, name)
		}
	}
	if len(kept) > 0 {
		fmt.Fprintln(out, "upstreams kept:    ", strings.Join(kept, ", "))
	}
	if len(rebuilt) > 0 {
		fmt.Fprintln(out, "upstreams rebuilt: ", strings.Join(rebuilt, ", "))
	}
}

// isWithin reports whether a dotted key lies in a table's element. Names that are no bare keys of TOML
// are in quotes.
func isWithin(key, table, name string) bool {
	for _, prefix := range []string{table + "." + name + ".", fmt.Sprintf("%s.%q.", table, name)} {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/engine/config"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // faults in a configuration, or something went wrong
	exitUsage  = 2 // the command line makes no sense
)

// execute runs a command line and returns the exit code.
func execute(args []string, in io.Reader, out, errOut io.Writer) int {
	root := newRoot()
	root.SetArgs(append([]string{}, args...)) // nil would mean os.Args
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	return report(errOut, root.Execute())
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "sluice",
		Short: "An API gateway in one static binary",
		Long: `Sluice is an API gateway: it routes requests by host, method and path, edits
them, shares them between versions of a service, and forwards them.

It is described by one file, gateway.toml. To see it at work, with nothing else
installed: sluice demo`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          usage(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{cmd.CommandPath(), err}
	})
	path := root.PersistentFlags().StringP("config", "c", "gateway.toml", "the configuration `file`")
	root.AddCommand(
		newRun(path), newCheck(path), newExplain(path), newDiff(), newTop(path), newLimits(path), newCluster(path), newKeys(path),
		newRevoke(path), newDemo(), newSchema(), newVersion(),
	)
	return root
}

// usageError is a command line that makes no sense.
type usageError struct {
	command string
	err     error
}

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// usage makes what a check of arguments finds a usageError.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{cmd.CommandPath(), err}
		}
		return nil
	}
}

// errTold fails a command that has already said why.
var errTold = errors.New("already told")

// report tells of an error and maps it to an exit code. Faults come as they are, one a line, for
// editors and terminals to make links of.
func report(errOut io.Writer, err error) int {
	var faults config.Faults
	var misuse usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errTold):
	case errors.As(err, &faults):
		fmt.Fprintln(errOut, faults.Error())
	case errors.As(err, &misuse):
		fmt.Fprintf(errOut, "sluice: %v\nRun '%s --help' for usage.\n", misuse.err, misuse.command)
		return exitUsage
	default:
		fmt.Fprintln(errOut, "sluice:", err)
	}
	return exitFailed
}

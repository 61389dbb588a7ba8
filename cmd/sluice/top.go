package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/engine"
)

// topPause is how long top waits between two questions.
const topPause = time.Second

func newTop(path *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch the running gateway in a terminal",
		Long: `Top shows what the running gateway does, at the admin address that the
configuration names: what it forwards and refuses, which targets are sick, which
limits refuse whom. It asks once a second.

Keys:
  1 2 3 4 5, tab  routes, upstreams, limits, clients, peers
  s, S            sort by the next, the previous column
  r               the other way round
  /               show only rows with a text; Enter keeps it, Esc ends it
  up, down, j, k  move; Page Up, Page Down, Home
  q               quit

What is not a terminal gets one picture, as with --once: rates are those of the
second in which it was taken.`,
		Example: `  sluice top
  sluice top --once | less`,
		Args: usage(cobra.NoArgs),
	}
	once := cmd.Flags().Bool("once", false, "print everything once, and exit")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := newControl(*path)
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		m := newTopModel(stylesFor(out, os.Getenv), func() (s engine.Status, err error) {
			err = c.ask(cmd.Context(), http.MethodGet, "/status", nil, &s)
			return s, err
		})
		if *once || !isTerminal(out) {
			return m.printOnce(cmd.Context(), out)
		}
		end, err := tea.NewProgram(m, tea.WithContext(cmd.Context()), tea.WithInput(cmd.InOrStdin()), tea.WithOutput(out)).Run()
		switch {
		case errors.Is(err, tea.ErrInterrupted):
			return nil
		case err != nil:
			return fmt.Errorf("cannot use the terminal: %w", err)
		}
		return end.(topModel).refused()
	}
	return cmd
}

// printOnce asks twice, for there is no rate in one picture.
func (m topModel) printOnce(ctx context.Context, out io.Writer) error {
	for i := range 2 {
		if i > 0 {
			select {
			case <-time.After(topPause):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		s, err := m.ask()
		if err != nil {
			return err
		}
		m = m.hear(s, time.Now())
	}
	_, err := io.WriteString(out, m.everything())
	return err
}

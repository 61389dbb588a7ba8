package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/engine"
)

func newCluster(path *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Show how the running gateway stands with its peers",
		Args:  usage(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newClusterStatus(path))
	return cmd
}

func newClusterStatus(path *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the peers, and what is heard of them",
		Long: `Status asks the running gateway, at the admin address that the configuration
names, which gateways share its limits and revocations, and how it hears them.

A peer that is alive was heard within the last intervals. One that is silent may
be down or cut off: what it used last is charged for some seconds, and then each
side keeps to its part of every shared limit.`,
		Args: usage(cobra.NoArgs),
	}
	format := addFormat(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkFormat(cmd, *format); err != nil {
			return err
		}
		c, err := newControl(*path)
		if err != nil {
			return err
		}
		var status engine.Status
		if err := c.ask(cmd.Context(), http.MethodGet, "/status", nil, &status); err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if *format == formatJSON {
			return printJSON(out, status.Cluster)
		}
		return clusterPrinter{limitsPrinter{out: out, styles: stylesFor(out, os.Getenv)}}.show(status.Cluster)
	}
	return cmd
}

// clusterPrinter shows what a gateway tells of its peers.
type clusterPrinter struct{ limitsPrinter }

func (p clusterPrinter) show(s *engine.ClusterStatus) error {
	if s == nil {
		_, err := fmt.Fprintln(p.out, "on its own: the configuration has no [cluster]")
		return err
	}
	shared := "no limits are shared"
	if len(s.Rules) > 0 {
		shared = "shared limits: " + strings.Join(s.Rules, ", ")
	}
	fmt.Fprintf(p.out, "%s and %s; %s\n", p.strong.text(s.Name), count(len(s.Peers), "peer"), shared)
	if len(s.Peers) > 0 {
		rows := [][]string{{"PEER", "ADDRESS", "STATE", "ROUND TRIP", "LOSS", "LAST HEARD"}}
		for _, peer := range s.Peers {
			rows = append(rows, []string{
				peer.Name, peer.Address, peer.State, spanText(peer.RTT), fmt.Sprintf("%.1f %%", 100*peer.Loss), spanText(peer.Lag) + " ago",
			})
		}
		fmt.Fprintln(p.out)
		p.table(rows)
	}
	fmt.Fprintf(p.out, "\nin: %s, %s; out: %s, %s\n", count(int(s.FramesIn), "packet"), bytesText(s.BytesIn),
		count(int(s.FramesOut), "packet"), bytesText(s.BytesOut))
	if s.Strange > 0 {
		fmt.Fprintf(p.out, "of limits that say something else here: %s\n", count(int(s.Strange), "message"))
	}
	if s.Excess > 0 {
		fmt.Fprintf(p.out, "beyond shared limits: %s\n", count(int(s.Excess), "token"))
	}
	return p.drops(s.Dropped)
}

// drops shows what was not taken, by reason.
func (p clusterPrinter) drops(dropped map[string]uint64) error {
	var reasons []string
	for _, reason := range slices.Sorted(maps.Keys(dropped)) {
		if n := dropped[reason]; n > 0 {
			reasons = append(reasons, fmt.Sprintf("%d %s", n, reason))
		}
	}
	if len(reasons) == 0 {
		return nil
	}
	_, err := io.WriteString(p.out, "dropped: "+strings.Join(reasons, ", ")+"\n")
	return err
}

// spanText shows milliseconds.
func spanText(ms float64) string {
	d := time.Duration(ms * float64(time.Millisecond))
	if d < time.Second {
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

func bytesText(n uint64) string {
	for _, unit := range []struct {
		name string
		size uint64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= unit.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(unit.size), unit.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

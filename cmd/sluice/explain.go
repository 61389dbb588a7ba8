package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/engine"
	"github.com/sluice-gateway/sluice/engine/config"
)

func newExplain(path *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain METHOD URL",
		Short: "Tell what the gateway would do with a request",
		Long: `Explain takes a request through the gateway's own code, offline, and tells which
route takes it and why others do not, what the route asks of it, where it goes,
and what the upstream gets; or why it is refused.

Nothing is sent, no issuer or store is asked whether a credential is good, and no
limit counts: the answer says what it depends on. The URL is taken as it is: dots
and escapes are the gateway's to judge. A URL that is only a path has the Host
localhost. A request id that the gateway would make up shows as zeros.`,
		Example: `  sluice explain GET http://api.example.com/users/42
  sluice explain POST /orders -H 'Host: api.example.com' -H 'X-API-Version: v2'
  sluice explain GET /orders -H 'X-API-Key: any'
  sluice explain GET /users/42 --client 203.0.113.9 --format json`,
		Args: usage(cobra.ExactArgs(2)),
	}
	headers := cmd.Flags().StringArrayP("header", "H", nil, "a request header, as \"`Name: value`\"; may be repeated")
	client := cmd.Flags().String("client", "127.0.0.1", "the `address` that the connection comes from")
	size := cmd.Flags().Int64("body-size", 0, "`bytes` in the request's body")
	all := cmd.Flags().Bool("all", false, "show every route that does not match")
	format := addFormat(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		misuse := func(err error) error { return usageError{cmd.CommandPath(), err} }
		if err := checkFormat(cmd, *format); err != nil {
			return err
		}
		address, err := netip.ParseAddr(*client)
		if err != nil {
			return misuse(fmt.Errorf("--client: %w", err))
		}
		if *size < 0 {
			return misuse(errors.New("--body-size is less than nothing"))
		}
		explained, err := engine.Explain(*path, engine.ExplainRequest{
			Method: args[0], URL: args[1], Header: *headers, Client: address, BodySize: *size,
		})
		var faults config.Faults
		switch {
		case errors.As(err, &faults):
			return err
		case err != nil:
			return misuse(err)
		case *format == formatJSON:
			return printJSON(cmd.OutOrStdout(), explained)
		}
		out := cmd.OutOrStdout()
		p := explanationPrinter{out: out, styles: stylesFor(out, os.Getenv), all: *all}
		p.print(explained)
		return nil
	}
	return cmd
}

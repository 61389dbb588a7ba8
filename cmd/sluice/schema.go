package main

import (
	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/engine/config"
)

func newSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of gateway.toml",
		Long: `Schema prints a JSON schema of the configuration, with which editors complete
and explain its keys.`,
		Example: `  sluice schema > gateway.schema.json
  # and as the first line of gateway.toml:
  #:schema ./gateway.schema.json`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			schema, err := config.Schema()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(schema)
			return err
		},
	}
}

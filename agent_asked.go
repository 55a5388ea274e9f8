package main

import (
	"github.com/spf13/cobra"

	"github.com/servicegroup-dev/servicegroup/controllers/node"
)

func newDumpCommand() *cobra.Command {
	options := node.DumpOptions{}
	cmd := &cobra.Command{
		Use:   "dump",
		Short: "Print how what the agent on this node believes differs from what the kernel holds",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return node.Dump(cmd.OutOrStdout(), options) },
	}
	cmd.Flags().BoolVar(&options.All, "all", false, "print every element as text, not only those that differ")
	cmd.Flags().StringVar(&options.Service, "service", "", "tell about this Service only, NAMESPACE/NAME")
	cmd.Flags().StringSliceVar(&options.Clients, "client", nil, "addresses of clients: tell which endpoints session affinity remembers for them")
	cmd.Flags().StringVarP(&options.Output, "output", "o", "text", "text or json")
	return cmd
}

func newCheckCommand() *cobra.Command {
	options := node.CheckOptions{Version: version}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say whether this node can do what the agent needs, and what else is on it; it changes nothing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return node.Check(cmd.Context(), cmd.OutOrStdout(), options)
		},
	}
	cmd.Flags().StringSliceVar(&options.Connect, "connect", nil, "addresses such as 10.96.0.20:80 to make TCP connections to")
	cmd.Flags().StringVarP(&options.Output, "output", "o", "text", "text or json")
	return cmd
}

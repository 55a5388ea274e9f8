package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/servicegroup-dev/servicegroup/internal/describe"
)

const statusExample = `  # Addresses, ports, groups and endpoints of web, what is wrong, and what to do about it.
  kubectl servicegroup status web

  # All endpoints with their nodes and zones, again whenever something changes.
  kubectl servicegroup status web -o wide --watch`

func newStatusCommand(p *plugin) *cobra.Command {
	var watch bool
	var format *output
	cmd := &cobra.Command{
		Use:               "status NAME",
		Short:             "Show what a ServiceGroup serves, and what is wrong with it",
		Example:           statusExample,
		Args:              oneName,
		ValidArgsFunction: p.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := format.validate(); err != nil {
				return err
			}
			c, err := p.connect(viewerRole)
			if err != nil {
				return err
			}
			name, err := groupName(args[0])
			if err != nil {
				return err
			}
			show := func(ctx context.Context) (string, error) {
				o, err := c.observe(ctx, name)
				if err != nil {
					return "", err
				}
				return render(format, "Status", describe.StatusOf(o), func(s describe.Status) string { return s.Text(paint(p.Out), format.width()) })
			}
			return p.show(cmd.Context(), show, watch, func(ctx context.Context) (*changes, error) { return c.watchGroup(ctx, name) })
		},
	}
	format = newOutput(cmd, "wide")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "print it again whenever it changes")
	return cmd
}

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
	var again bool
	var format *output
	cmd := p.aboutOne(&cobra.Command{
		Use:     "status NAME",
		Short:   "Show what a ServiceGroup serves, and what is wrong with it",
		Example: statusExample,
	}, func(ctx context.Context, c *cluster, name string) error {
		return p.show(ctx, format, again, c.watchGroup(name), func(ctx context.Context) (string, error) {
			o, err := c.observe(ctx, name)
			if err != nil {
				return "", err
			}
			return render(format, "Status", describe.StatusOf(o), func(s describe.Status) string { return s.Text(paint(p.Out), format.width()) })
		})
	})
	format = newOutput(cmd, "wide")
	addWatch(cmd, &again, "print it again whenever it changes")
	return cmd
}

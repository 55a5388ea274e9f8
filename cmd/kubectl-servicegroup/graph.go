package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/servicegroup-dev/servicegroup/internal/describe"
)

const graphExample = `  # A flowchart that GitHub, GitLab and many wikis draw.
  kubectl servicegroup graph web -o mermaid

  # An image.
  kubectl servicegroup graph web -o svg > web.svg
  kubectl servicegroup graph web -o dot | dot -Tpng > web.png`

func newGraphCommand(p *plugin) *cobra.Command {
	drawings := map[string]func(describe.Status) string{
		"mermaid": describe.Status.Mermaid, "dot": describe.Status.Dot, "svg": describe.Status.SVG,
	}
	format := "mermaid"
	cmd := p.aboutOne(&cobra.Command{
		Use:     "graph NAME",
		Short:   "Draw a ServiceGroup: its entry, ports, groups and endpoints",
		Example: graphExample,
	}, func(ctx context.Context, c *cluster, name string) error {
		o, err := c.observe(ctx, name)
		if err != nil {
			return err
		}
		return p.print(drawings[format](describe.StatusOf(o)), nil)
	})
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if drawings[format] == nil {
			return misusef("-o %s: give mermaid, dot or svg", format)
		}
		return nil
	}
	formats := []string{"mermaid", "dot", "svg"}
	cmd.Flags().StringVarP(&format, "output", "o", format, strings.Join(formats, ", "))
	return p.withCompletion(cmd, "output", words(formats...))
}

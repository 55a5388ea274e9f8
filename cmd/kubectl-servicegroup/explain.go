package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/servicegroup-dev/servicegroup/internal/describe"
)

const explainExample = `  # Which pods are endpoints of web, which are not, and why.
  kubectl servicegroup explain web

  # Why one pod is in or out, for every group.
  kubectl servicegroup explain web --pod web-7d4f9

  # Again whenever a pod comes, goes or becomes ready.
  kubectl servicegroup explain web --watch`

func newExplainCommand(p *plugin) *cobra.Command {
	var pod string
	var again bool
	var format *output
	cmd := p.aboutOne(&cobra.Command{
		Use:     "explain NAME [--pod POD]",
		Short:   "Say why each pod is in or out of a ServiceGroup",
		Example: explainExample,
	}, func(ctx context.Context, c *cluster, name string) error {
		return p.show(ctx, format, again, c.watchGroup(name), func(ctx context.Context) (string, error) {
			o, err := c.observe(ctx, name)
			if err != nil {
				return "", err
			}
			explanation, err := describe.Explain(o, pod)
			if err != nil {
				return "", err
			}
			return render(format, "Explanation", explanation, func(e describe.Explanation) string { return e.Text(paint(p.Out), format.width()) })
		})
	})
	format = newOutput(cmd, "wide")
	addWatch(cmd, &again, "print it again whenever it changes")
	cmd.Flags().StringVar(&pod, "pod", "", "explain this pod only, also where no group selects it")
	return p.withCompletion(cmd, "pod", p.completePods)
}

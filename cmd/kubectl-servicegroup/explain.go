package main

import (
	"github.com/spf13/cobra"

	"github.com/servicegroup-dev/servicegroup/internal/describe"
)

const explainExample = `  # Which pods are endpoints of web, which are not, and why.
  kubectl servicegroup explain web

  # Why one pod is in or out, for every group.
  kubectl servicegroup explain web --pod web-7d4f9`

func newExplainCommand(p *plugin) *cobra.Command {
	var pod string
	var format *output
	cmd := &cobra.Command{
		Use:               "explain NAME [--pod POD]",
		Short:             "Say why each pod is in or out of a ServiceGroup",
		Example:           explainExample,
		Args:              oneName,
		ValidArgsFunction: p.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := format.validate(); err != nil {
				return err
			}
			_, o, err := p.observe(cmd.Context(), viewerRole, args[0])
			if err != nil {
				return err
			}
			explanation, err := describe.Explain(o, pod)
			if err != nil {
				return err
			}
			return p.print(render(format, "Explanation", explanation, func(e describe.Explanation) string { return e.Text(paint(p.Out), format.width()) }))
		},
	}
	format = newOutput(cmd, "wide")
	cmd.Flags().StringVar(&pod, "pod", "", "explain this pod only, also where no group selects it")
	return p.withCompletion(cmd, "pod", p.completePods)
}

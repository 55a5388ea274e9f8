package main

import (
	"context"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/internal/describe"
)

const historyExample = `  # The specs of web that were accepted, and which of them is served.
  kubectl servicegroup history web

  # One of them, as a manifest has it.
  kubectl servicegroup history web --revision 3`

func newHistoryCommand(p *plugin) *cobra.Command {
	var number revisionNumber
	var format *output
	cmd := p.aboutOne(&cobra.Command{
		Use:     "history NAME [--revision N]",
		Short:   "List the specs of a ServiceGroup that were accepted, the oldest first",
		Example: historyExample,
	}, func(ctx context.Context, c *cluster, name string) error {
		history, err := c.history(ctx, name)
		if err != nil {
			return err
		}
		now := metav1.Now()
		if number == 0 {
			return p.print(render(format, "History", history, func(h describe.History) string { return h.Text(paint(p.Out), now) }))
		}
		record, err := history.Revision(int64(number))
		if err != nil {
			return err
		}
		return p.print(render(format, "HistoryRecord", record, func(r describe.HistoryRecord) string { return r.Text(paint(p.Out), now) }))
	})
	format = newOutput(cmd)
	cmd.Flags().Var(&number, "revision", "show the spec of this revision")
	return p.withCompletion(cmd, "revision", p.completeRevisions)
}

// history reads the specs of a ServiceGroup that were accepted.
func (c *cluster) history(ctx context.Context, name string) (describe.History, error) {
	sg, err := c.group(ctx, name)
	if err != nil {
		return describe.History{}, err
	}
	revisions, err := c.revisions(ctx, sg)
	if err != nil {
		return describe.History{}, c.complain("listing ControllerRevisions", err)
	}
	return describe.HistoryOf(sg, revisions), nil
}

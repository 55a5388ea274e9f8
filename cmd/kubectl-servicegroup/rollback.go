package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/describe"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

const rollbackExample = `  # To the spec before the one that is served.
  kubectl servicegroup rollback web

  # To the one that kubectl servicegroup history web lists as 3; first only ask.
  kubectl servicegroup rollback web --to-revision 3 --dry-run
  kubectl servicegroup rollback web --to-revision 3`

// dryRuns are the values of --dry-run; the flag alone is the last one.
var dryRuns = []string{"none", "client", "server"}

// revisionNumber is a flag that takes the number of a revision; 0 is none.
type revisionNumber int64

func (n *revisionNumber) String() string { return strconv.FormatInt(int64(*n), 10) }
func (n *revisionNumber) Type() string   { return "N" }
func (n *revisionNumber) Set(text string) error {
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil || number < 1 {
		return errors.New("give the number of a revision, such as 3")
	}
	*n = revisionNumber(number)
	return nil
}

func newRollbackCommand(p *plugin) *cobra.Command {
	var to revisionNumber
	var dryRun string
	cmd := p.aboutOneAs(editorRole, &cobra.Command{
		Use:   "rollback NAME [--to-revision N]",
		Short: "Give a ServiceGroup a spec back that was accepted before",
		Long: "Give a ServiceGroup a spec back that was accepted before: the one before the spec that is served, or that of --to-revision. Once it is accepted" +
			" it is a revision of its own, the newest. spec.paused stays as it is.\n\nWhoever keeps the ServiceGroup's manifest elsewhere, as GitOps does, rolls back there.",
		Example: rollbackExample,
	}, func(ctx context.Context, c *cluster, name string) error {
		return p.rollback(ctx, c, rollback{name: name, to: int64(to), dryRun: dryRun})
	})
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if !slices.Contains(dryRuns, dryRun) {
			return misusef("--dry-run=%s: give none, client or server", dryRun)
		}
		return nil
	}
	cmd.Flags().Var(&to, "to-revision", "revision to go back to; default: the one before the served one")
	cmd.Flags().StringVar(&dryRun, "dry-run", dryRuns[0], "none; client prints what would be done; server asks the API server, too, and changes nothing")
	cmd.Flag("dry-run").NoOptDefVal = dryRuns[len(dryRuns)-1]
	p.withCompletion(cmd, "dry-run", words(dryRuns...))
	return p.withCompletion(cmd, "to-revision", p.completeRevisions)
}

// rollback is what a user asks for.
type rollback struct {
	name   string
	to     int64
	dryRun string
}

// rollback sets the spec, and tries again where somebody wrote the ServiceGroup in between.
func (p *plugin) rollback(ctx context.Context, c *cluster, asked rollback) error {
	const tries = 5
	for try := 1; ; try++ {
		record, changed, err := p.setSpec(ctx, c, asked)
		switch {
		case apierrors.IsConflict(err) && try < tries:
			continue
		case err != nil:
			return err
		}
		return p.print(rolledBack(asked, record, changed), nil)
	}
}

func rolledBack(asked rollback, record describe.HistoryRecord, changed bool) string {
	object := "servicegroup.net.servicegroup.dev/" + asked.name
	if !changed {
		return fmt.Sprintf("%s skipped rollback (the spec is that of revision %d already)\n", object, record.Revision)
	}
	if asked.dryRun == "none" {
		return fmt.Sprintf("%s rolled back to revision %d\n", object, record.Revision)
	}
	return fmt.Sprintf("%s rolled back to revision %d (%s dry run)\n%s", object, record.Revision, asked.dryRun, record.YAML())
}

// setSpec sets the spec to that of the revision, and reports whether it was another one.
func (p *plugin) setSpec(ctx context.Context, c *cluster, asked rollback) (describe.HistoryRecord, bool, error) {
	sg, err := c.group(ctx, asked.name)
	if err != nil {
		return describe.HistoryRecord{}, false, err
	}
	revisions, err := c.revisions(ctx, sg)
	if err != nil {
		return describe.HistoryRecord{}, false, c.complain("listing ControllerRevisions", err)
	}
	record, err := describe.HistoryOf(sg, revisions).Target(asked.to)
	if err != nil || plan.HashSpec(record.Spec) == plan.HashSpec(&sg.Spec) {
		return record, false, err
	}
	paused := sg.Spec.Paused
	sg.Spec = *record.Spec.DeepCopy()
	sg.Spec.Paused = paused
	if asked.dryRun != "client" {
		err = c.update(ctx, sg, asked.dryRun == "server")
	}
	if err == nil && paused {
		fmt.Fprintf(p.ErrOut, "warning: ServiceGroup %s is paused: what is served stays as it is until spec.paused is false\n", asked.name)
	}
	return record, true, err
}

// update writes a ServiceGroup. A conflict is returned as it is, since the caller knows what to do.
func (c *cluster) update(ctx context.Context, sg *v1alpha1.ServiceGroup, dryRun bool) error {
	options := &metav1.UpdateOptions{FieldManager: "kubectl-servicegroup"}
	if dryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	err := c.groups.Put().Namespace(sg.Namespace).Resource(servicegroups).Name(sg.Name).
		VersionedParams(options, metav1.ParameterCodec).Body(sg).Do(ctx).Error()
	if err == nil || apierrors.IsConflict(err) {
		return err
	}
	return c.complain("updating ServiceGroup "+sg.Name, err)
}

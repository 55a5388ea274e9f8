// Command kubectl-servicegroup is the kubectl plugin of ServiceGroup: kubectl finds it on the PATH and
// runs it as kubectl servicegroup. It reads and prints; only rollback changes something in
// the cluster: the spec of a ServiceGroup.
//
// It exits with status 1 after an error, which it tells in one sentence with the remedy, and with
// status 2 when it was called in a way it does not understand.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// version is stamped by the build.
var version = "development"

func main() {
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	os.Exit(run(streams, commandLine(os.Args)))
}

// run runs the command line and returns the exit status.
func run(streams genericiooptions.IOStreams, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	command := newCommand(streams)
	command.SetArgs(args)
	err := command.ExecuteContext(ctx)
	if err != nil && !errors.Is(err, errFailed) && ctx.Err() == nil { // who interrupts knows why
		fmt.Fprintln(streams.ErrOut, "error:", err)
	}
	return statusOf(err)
}

func newCommand(streams genericiooptions.IOStreams) *cobra.Command {
	root := &cobra.Command{
		Use:           "kubectl-servicegroup",
		Short:         "Work with ServiceGroups",
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl servicegroup"},
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return misusef("there is no command %q; kubectl servicegroup --help lists them", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return misusef("%w; %s --help lists what there is", err, cmd.CommandPath())
	})
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	p := &plugin{IOStreams: streams, config: genericclioptions.NewConfigFlags(true)}
	p.config.AddFlags(root.PersistentFlags())
	root.PersistentFlags().StringVar(&p.agentNamespace, "agent-namespace", "", "namespace in which to look for the agents; default: all")
	p.withCompletion(root, "namespace", p.completeNamespaces)
	p.withCompletion(root, "agent-namespace", p.completeNamespaces)
	p.withCompletion(root, "context", p.completeConfig(contextNames))
	p.withCompletion(root, "cluster", p.completeConfig(clusterNames))
	p.withCompletion(root, "user", p.completeConfig(userNames))
	root.AddCommand(newStatusCommand(p), newExplainCommand(p), newTraceCommand(p), newTopCommand(p),
		newCheckCommand(p), newGraphCommand(p), newHistoryCommand(p), newRollbackCommand(p), newConvertCommand(p), newSysdumpCommand(p))
	return root
}

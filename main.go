// Command servicegroup is the operator and the node agent of ServiceGroup in one binary: flags and
// wiring, no logic.
package main

import (
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
)

// version is stamped by the build.
var version = "development"

func main() {
	if err := newCommand().ExecuteContext(ctrl.SetupSignalHandler()); err != nil {
		fmt.Fprintln(os.Stderr, "servicegroup:", err)
		os.Exit(1)
	}
}

// common are the flags that the manager and the agent share.
type common struct {
	kubeconfig string
	verbosity  int
	logFormat  string
}

func newCommand() *cobra.Command {
	c := &common{}
	root := &cobra.Command{
		Use:           "servicegroup",
		Short:         "One entry point in front of many groups of pods: operator and node agent",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&c.kubeconfig, "kubeconfig", "", "file that says how to reach the API server; without it the pod's service account is used")
	root.PersistentFlags().IntVarP(&c.verbosity, "v", "v", 0, "how much to log: 0 is what an administrator reads, 1 each change")
	root.PersistentFlags().StringVar(&c.logFormat, "log-format", "text", "format of the log on standard error: text or json")
	root.AddCommand(newManagerCommand(c), newAgentCommand(c), newSelftestCommand(c))
	return root
}

// setup returns the logger and the client configuration.
func (c *common) setup() (logr.Logger, *rest.Config, error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // caches make most of both: memory is dearer than a little CPU
	}
	handler, err := c.logHandler()
	if err != nil {
		return logr.Discard(), nil, err
	}
	log := logr.FromSlogHandler(handler)
	klog.SetLogger(log)
	ctrl.SetLogger(log)
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		return log, nil, fmt.Errorf("reading how to reach the API server (give --kubeconfig when not running in a pod): %w", err)
	}
	config.UserAgent = "servicegroup/" + version
	return log, config, nil
}

func (c *common) logHandler() (slog.Handler, error) {
	options := &slog.HandlerOptions{Level: slog.Level(-c.verbosity)}
	switch c.logFormat {
	case "text":
		return slog.NewTextHandler(os.Stderr, options), nil
	case "json":
		return slog.NewJSONHandler(os.Stderr, options), nil
	}
	return nil, fmt.Errorf("--log-format %q is not known: it is text or json", c.logFormat)
}

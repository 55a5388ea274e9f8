package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/selftest"
)

func newSelftestCommand(c *common) *cobra.Command {
	options := selftest.Options{}
	cmd := &cobra.Command{
		Use:   "selftest",
		Short: "In a pod: make a ServiceGroup in front of it, connect to its virtual IP, and take it away again",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, config, err := c.setup()
			if err != nil {
				return err
			}
			scheme := runtime.NewScheme()
			if err := v1alpha1.AddToScheme(scheme); err != nil {
				return err
			}
			if options.Client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
				return fmt.Errorf("connecting to the API server: %w", err)
			}
			if err := selftest.Run(cmd.Context(), options); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "a connection to a virtual IP was served")
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&options.Namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of the pod; default: the environment's POD_NAMESPACE")
	flags.StringToStringVar(&options.Labels, "labels", map[string]string{"app.kubernetes.io/component": "selftest"}, "labels that select the pod and no other")
	flags.Int32Var(&options.Port, "port", 8080, "port to listen on")
	flags.DurationVar(&options.Timeout, "timeout", time.Minute, "time after which it has failed")
	return cmd
}

package manifests

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/kube"
	releasev1 "helm.sh/helm/v4/pkg/release/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// Values are a chart's values.
type Values = map[string]any

// ChartPath is the folder of the chart.
func ChartPath() (string, error) {
	root, err := lab.ModuleRoot()
	return filepath.Join(root, "charts", "servicegroup"), err
}

// Chart loads the chart.
func Chart() (*chart.Chart, error) {
	path, err := ChartPath()
	if err != nil {
		return nil, err
	}
	return loader.Load(path)
}

// PreviousChart loads the chart of the release before this one, which make previous brings.
func PreviousChart() (*chart.Chart, error) {
	root, err := lab.ModuleRoot()
	if err != nil {
		return nil, err
	}
	return loader.Load(filepath.Join(root, "bin", "previous", "charts", "servicegroup"))
}

// Helm returns what helm template prints, but for the tests.
func Helm(values Values) ([]*unstructured.Unstructured, error) { return HelmIn(Namespace, values) }

// HelmIn is Helm in another namespace.
func HelmIn(namespace string, values Values) ([]*unstructured.Unstructured, error) {
	release, err := render(namespace, values)
	if err != nil {
		return nil, err
	}
	return Parse(release.Manifest)
}

// HelmTests returns the objects that helm test makes.
func HelmTests(values Values) ([]*unstructured.Unstructured, error) {
	release, err := render(Namespace, values)
	if err != nil {
		return nil, err
	}
	var out []*unstructured.Unstructured
	for _, hook := range release.Hooks {
		objects, err := Parse(hook.Manifest)
		if err != nil {
			return nil, err
		}
		out = append(out, objects...)
	}
	return out, nil
}

// HelmNotes returns what Helm says at the end of an installation.
func HelmNotes(values Values) (string, error) {
	release, err := render(Namespace, values)
	if err != nil {
		return "", err
	}
	return release.Info.Notes, nil
}

func render(namespace string, values Values) (*releasev1.Release, error) {
	loaded, err := Chart()
	if err != nil {
		return nil, err
	}
	install := action.NewInstall(action.NewConfiguration(action.ConfigurationSetLogger(slog.DiscardHandler)))
	install.DryRunStrategy = action.DryRunClient
	install.ReleaseName, install.Namespace = "servicegroup", namespace
	if install.KubeVersion, err = common.ParseKubeVersion("v1.37.1"); err != nil {
		return nil, err
	}
	release, err := install.Run(loaded, values)
	if err != nil {
		return nil, err
	}
	return release.(*releasev1.Release), nil
}

// Release is a release of the chart in a cluster.
type Release struct {
	config *action.Configuration
	name   string
}

// releaseTimeout bounds each operation.
const releaseTimeout = time.Minute

// NewRelease returns a release that is not installed yet, in Namespace of the cluster of a kubeconfig.
func NewRelease(kubeconfig string) (*Release, error) {
	namespace := Namespace
	flags := genericclioptions.NewConfigFlags(false)
	flags.KubeConfig, flags.Namespace = &kubeconfig, &namespace
	config := action.NewConfiguration(action.ConfigurationSetLogger(slog.DiscardHandler))
	if err := config.Init(flags, Namespace, "secret"); err != nil {
		return nil, fmt.Errorf("preparing Helm: %w", err)
	}
	return &Release{config: config, name: "servicegroup"}, nil
}

// Install installs the chart.
func (r *Release) Install(of *chart.Chart, values Values) error {
	install := action.NewInstall(r.config)
	install.ReleaseName, install.Namespace, install.CreateNamespace = r.name, Namespace, true
	install.Timeout, install.WaitStrategy = releaseTimeout, kube.HookOnlyStrategy
	_, err := install.Run(of, values)
	return err
}

// Upgrade replaces what is installed by the chart.
func (r *Release) Upgrade(to *chart.Chart, values Values) error {
	upgrade := action.NewUpgrade(r.config)
	upgrade.Namespace, upgrade.Timeout, upgrade.WaitStrategy = Namespace, releaseTimeout, kube.HookOnlyStrategy
	upgrade.ServerSideApply = "auto"
	_, err := upgrade.Run(r.name, to, values)
	return err
}

// Rollback goes back to a revision.
func (r *Release) Rollback(revision int) error {
	rollback := action.NewRollback(r.config)
	rollback.Version, rollback.Timeout, rollback.WaitStrategy = revision, releaseTimeout, kube.HookOnlyStrategy
	rollback.ServerSideApply = "auto"
	return rollback.Run(r.name)
}

// Uninstall deletes what the chart installed.
func (r *Release) Uninstall() error {
	uninstall := action.NewUninstall(r.config)
	uninstall.Timeout, uninstall.WaitStrategy = releaseTimeout, kube.HookOnlyStrategy
	_, err := uninstall.Run(r.name)
	return err
}

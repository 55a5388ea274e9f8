package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Kubeconfig is the path of an administrator's kubeconfig file, good on every host of the lab.
func (c *ControlPlane) Kubeconfig() string { return c.path("kubeconfig") }

// KubeconfigAs writes a kubeconfig file that acts as another user with what RBAC allows that one,
// such as system:serviceaccount:NAMESPACE:NAME, and returns its path.
func (c *ControlPlane) KubeconfigAs(name, user string, groups ...string) (string, error) {
	path := c.path("kubeconfig-" + name)
	return path, c.writeKubeconfig(path, &clientcmdapi.AuthInfo{Token: c.token, Impersonate: user, ImpersonateGroups: groups})
}

func (c *ControlPlane) writeKubeconfig(path string, as *clientcmdapi.AuthInfo) error {
	const name = "lab"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: c.url(), CertificateAuthorityData: c.ca}
	config.AuthInfos[name] = as
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("writing a kubeconfig: %w", err)
	}
	return nil
}

// Kubectl is a command that runs the real kubectl as administrator. The caller starts it.
func (c *ControlPlane) Kubectl(ctx context.Context, args ...string) (*exec.Cmd, error) {
	path, err := kubernetesBinary("kubectl")
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), c.KubectlEnv()...)
	return cmd, nil
}

// KubectlEnv are the environment variables that make any kubectl in the lab an administrator's, and
// keep its cache out of the home directory.
func (c *ControlPlane) KubectlEnv() []string {
	return []string{"KUBECONFIG=" + c.Kubeconfig(), "KUBECACHEDIR=" + c.path("kubectl-cache")}
}

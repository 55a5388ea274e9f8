package lab

import "context"

// LaunchAgent starts the project's agent on the node and, unlike [Lab.StartAgent], waits for nothing:
// for who measures how long it takes. Close ends it.
func (l *Lab) LaunchAgent(node *Node) (*Process, error) {
	agent, err := l.agentProgram(node)
	if err != nil {
		return nil, err
	}
	return l.ControlPlane.launch(agent)
}

// LaunchKubeProxy is [Lab.StartKubeProxy] without the waiting, and with more arguments.
func (l *Lab) LaunchKubeProxy(node *Node, mode string, args ...string) (*Process, error) {
	proxy, err := l.ControlPlane.kubeProxyProgram(node, mode)
	if err != nil {
		return nil, err
	}
	proxy.args = append(proxy.args, args...)
	return l.ControlPlane.launch(proxy)
}

// launch starts a program that Close ends, and does not wait until it is ready.
func (c *ControlPlane) launch(p program) (*Process, error) {
	p.health = ""
	return c.run(context.Background(), p)
}

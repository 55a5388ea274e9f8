package main

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

func TestMain(m *testing.M) { lab.Main(m) }

const bugReport = `
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: web, namespace: default}
  spec: {clusterIP: 10.96.0.20, ports: [{name: http, port: 80}]}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
  addressType: IPv4
  ports: [{name: http, port: 8080, protocol: TCP}]
  endpoints: [{addresses: [10.244.0.1]}, {addresses: [10.244.0.2]}, {addresses: [10.96.0.21]}]
---
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [10.96.0.0/12]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: unrelated}
---
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: default}
spec: {clusterIP: 10.96.0.21, ports: [{port: 80}]}
`

func TestRulesetOfFiles(t *testing.T) {
	lab.Require(t)
	o := &objects{services: map[types.NamespacedName]*corev1.Service{}, slices: map[types.NamespacedName][]*discoveryv1.EndpointSlice{}}
	if err := o.read([]byte(bugReport)); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := program(&out, o.build(proxy.Node{})); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"10.96.0.20 . tcp . 80 : goto pick-2", "10.96.0.21 . tcp . 80 : goto rejecting",
		"10.96.0.20 . tcp . 80 . 1 : 10.244.0.2 . 8080",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
}

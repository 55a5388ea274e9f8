#!/usr/bin/env bash
# Copies what the chart has in common with config/ into charts/servicegroup/files: a chart cannot
# read files outside of its own folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
files=charts/servicegroup/files
rm -rf "$files"
mkdir -p "$files"/{crd,rbac,policies,monitoring}
cp config/crd/*_*.yaml "$files/crd"
cp config/rbac/*.yaml "$files/rbac"
cp config/components/policies/*.yaml "$files/policies"
cp config/components/monitoring/*.{yaml,json} "$files/monitoring"
cp config/default/critical_pods_quota.yaml "$files"
rm "$files"/*/kustomization.yaml

// Package dashboard tests what is drawn and alerted: it scrapes real programs, and series that say what
// went wrong, into Prometheus' own storage, and asks Prometheus' own engine what the Grafana dashboard and
// the alerts ask. Grafana itself is not run: its model of dashboards loads the file (package manifests), and
// what it would draw is looked at as series.
package dashboard

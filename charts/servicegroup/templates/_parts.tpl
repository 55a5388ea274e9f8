{{/* A file that is copied from config/, in the namespace of the release. */}}
{{- define "servicegroup.file" -}}
---
{{ index . 0 | replace "servicegroup-system" (index . 1) | trimPrefix "---\n" }}
{{ end -}}

{{- define "servicegroup.selector" -}}
app.kubernetes.io/name: servicegroup
app.kubernetes.io/component: {{ . }}
{{- end -}}

{{- define "servicegroup.labels" -}}
{{ include "servicegroup.selector" (index . 0) }}
app.kubernetes.io/instance: {{ (index . 1).Release.Name }}
app.kubernetes.io/managed-by: {{ (index . 1).Release.Service }}
app.kubernetes.io/version: {{ (index . 1).Chart.AppVersion | quote }}
helm.sh/chart: {{ (index . 1).Chart.Name }}-{{ (index . 1).Chart.Version }}
{{- end -}}

{{- define "servicegroup.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{/* How pods are replaced; what is said of rolling updates is refused with any other type. */}}
{{- define "servicegroup.strategy" -}}
{{ eq .type "RollingUpdate" | ternary . (omit . "rollingUpdate") | toYaml }}
{{- end -}}

{{/* Flags that manager and agent share, where they differ from the defaults. */}}
{{- define "servicegroup.commonArgs" -}}
{{- if ne .Values.log.format "text" }}
- --log-format={{ .Values.log.format }}
{{- end }}
{{- if .Values.log.verbosity }}
- --v={{ .Values.log.verbosity }}
{{- end }}
{{- if not .Values.metrics.secure }}
- --metrics-secure=false
{{- end }}
{{- end -}}

{{- define "servicegroup.agentMetricsPort" -}}
{{ .Values.agent.metricsPort | default (ternary 10249 10449 (eq .Values.mode "all")) }}
{{- end -}}

{{- define "servicegroup.agentHealthPort" -}}
{{ .Values.agent.healthPort | default (ternary 10256 10456 (eq .Values.mode "all")) }}
{{- end -}}

{{- define "servicegroup.apiServerEnv" -}}
{{- if .Values.apiServer.host }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ .Values.apiServer.host | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ .Values.apiServer.port | quote }}
{{- end }}
{{- end -}}

{{- define "gvList" -}}
<!-- Written by make generate from api/v1alpha1. -->
# API reference

{{ range . -}}
{{ template "gvDetails" . }}
{{- end }}
{{- end -}}

{{- define "gvDetails" -}}
{{- $gv := . -}}
`apiVersion: {{ $gv.GroupVersionString }}`

Every type and field, as the Go types and `kubectl explain` have them. [fields.md](fields.md) has an example for each
field of the spec, and [conditions.md](conditions.md) what the conditions say. Rules over several fields are part of the CRD,
and the API server answers with their messages.
{{ range $gv.SortedKinds }}{{ template "type" ($gv.TypeForKind .) }}{{ end }}
{{- range $gv.SortedTypes }}{{ if not .GVK }}{{ template "type" . }}{{ end }}{{ end }}
{{- end -}}

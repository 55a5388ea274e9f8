{{- define "type" -}}
{{- $type := . -}}
{{- if markdownShouldRenderType $type }}
## {{ $type.Name }}

{{ $type.Doc }}
{{ if and $type.IsAlias (not $type.EnumValues) }}
It is a {{ markdownRenderType $type.UnderlyingType }}.
{{ end }}
{{- if $type.References }}
Used by {{ range $i, $r := $type.SortedReferences }}{{ if $i }}, {{ end }}{{ markdownRenderTypeLink $r }}{{ end }}.
{{ end }}
{{- if $type.Members }}
| Field | Type | Meaning | Default | Limits |
|---|---|---|---|---|
{{ range $type.Members -}}
| `{{ .Name }}` | {{ regexReplaceAll "\\[([^]]+)\\]\\(http[^)]+\\)" (markdownRenderType .Type) "${1}" }} | {{ template "type_members" . }} | {{ with .Default }}`{{ . }}`{{ end }} | {{ template "limits" . }} |
{{ end -}}
{{ end }}
{{- if $type.EnumValues }}
| Value | Meaning |
|---|---|
{{ range $type.EnumValues -}}
| `{{ .Name }}` | {{ .Doc | replace "\n" " " | trim }} |
{{ end -}}
{{ end }}
{{- end -}}
{{- end -}}

{{- define "limits" -}}
{{- $said := list -}}
{{- range .Validation -}}
{{- $rule := . | trim | replace "\\{" "{" | replace "\\}" "}" | replace "|" "\\|" -}}
{{- if hasPrefix "Required" $rule -}}{{- $said = append $said "required" -}}
{{- else if not (or (hasPrefix "Optional" $rule) (hasPrefix "XIntOrString" $rule) (hasPrefix "Schemaless" $rule)) -}}
{{- $said = append $said (regexReplaceAll ":" $rule ": " | replace ":  " ": ") -}}
{{- end -}}
{{- end -}}
{{ join "<br>" $said }}
{{- end -}}

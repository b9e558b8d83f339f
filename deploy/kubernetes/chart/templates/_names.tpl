{{/* Name of every object: the release's, with the chart's in it. At most 40 characters, so that
what is added to it (-peers, -scale-down, an ordinal) fits into a DNS label. */}}
{{- define "quorate.name" -}}
{{- $chart := default .Chart.Name .Values.nameOverride -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name $chart) (contains $chart .Release.Name) -}}
{{- if gt (len $name) 40 -}}
{{- fail (printf "%q is longer than 40 characters: take a shorter release name" $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* What selectors select by: never changed, a StatefulSet's cannot be. */}}
{{- define "quorate.selector" -}}
app.kubernetes.io/name: quorate
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end -}}

{{- define "quorate.labels" -}}
{{ include "quorate.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "quorate.image" -}}
{{ printf "%s:%s" .Values.image.name .Values.image.tag }}
{{- end -}}

{{- define "quorate.secretName" -}}
{{- $secret := .Values.clusterSecret -}}
{{- if and $secret.existingSecret $secret.value -}}
{{- fail "clusterSecret: give existingSecret or value, not both" -}}
{{- else if $secret.existingSecret -}}
{{- $secret.existingSecret -}}
{{- else if $secret.value -}}
{{- printf "%s-cluster" (include "quorate.name" .) -}}
{{- else -}}
{{- fail "clusterSecret: required, existingSecret (a Secret with the key cluster-secret) or value (16 bytes or more); there is no default" -}}
{{- end -}}
{{- end -}}

{{/* The three founders, whatever the number of replicas. */}}
{{- define "quorate.founders" -}}
{{- $name := include "quorate.name" . -}}
{{- range $ordinal := until 3 -}}
{{- if $ordinal }},{{ end -}}
{{- printf "%s-%d.%s-peers:7848" $name $ordinal $name -}}
{{- end -}}
{{- end -}}

{{/* quorate.toml. Numbers come as floating point, whatever was written. */}}
{{- define "quorate.settings" -}}
{{- range $key, $value := .Values.settings -}}
{{- if kindIs "string" $value }}
{{ $key }} = {{ $value | toJson }}
{{- else if kindIs "bool" $value }}
{{ $key }} = {{ $value }}
{{- else }}
{{ $key }} = {{ int64 $value }}
{{- end }}
{{- end }}
{{ end -}}

{{/* What every pod of this chart may and may not do. */}}
{{- define "quorate.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "quorate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "quorate.secretVolume" -}}
name: cluster-secret
secret:
  secretName: {{ include "quorate.secretName" . }}
  defaultMode: 0440
  items:
    - {key: cluster-secret, path: cluster-secret}
{{- end -}}

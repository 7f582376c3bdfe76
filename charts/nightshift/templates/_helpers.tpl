{{- define "nightshift.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "nightshift.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end -}}

{{/* Labels by which the operator's pods are selected, also by the engines' NetworkPolicies. */}}
{{- define "nightshift.selectorLabels" -}}
app.kubernetes.io/name: nightshift
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "nightshift.labels" -}}
{{ include "nightshift.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "nightshift.image" -}}
{{- $repository := .Values.image.repository -}}
{{- if not $repository -}}
{{- fail "image.repository is not set: build images/operator, push it, and install with --set image.repository=YOUR-REGISTRY/nightshift/operator" -}}
{{- end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "nightshift.leaseName" -}}
{{- printf "%s-operator" (include "nightshift.name" .) -}}
{{- end -}}

{{/* What the operator may do where LLMDeployments are: in every namespace, or in each of watchNamespaces.
     Every rule, and why it is needed, is explained in docs/architecture.md. No Secrets, no wildcards. */}}
{{- define "nightshift.rules" -}}
- apiGroups: [nightshift.dev]
  resources: [llmdeployments]
  verbs: [list, watch]
- apiGroups: [nightshift.dev]
  resources: [llmdeployments/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch, delete]
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
# The progress of model downloads, and why an engine crashed, are read from the end of their logs.
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
- apiGroups: [""]
  resources: [persistentvolumeclaims, serviceaccounts]
  verbs: [list, watch, create, patch]
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch, create, patch]
- apiGroups: [apps]
  resources: [controllerrevisions, replicasets]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [list, watch, create, patch, delete]
# Why a pod gets no volume or sandbox, and a Job no pod, stands in the Events about it alone.
- apiGroups: [""]
  resources: [events]
  verbs: [create, list]
{{- end -}}

{{/* The operator's configuration: the fields of nightshift.api.config.OperatorConfig. Quantities are made strings,
     because a value such as cpu: 2 arrives as a number. */}}
{{- define "nightshift.config" -}}
namespace: {{ include "nightshift.namespace" . | quote }}
operatorLabels:
  {{- include "nightshift.selectorLabels" . | nindent 2 }}
fetchImage: {{ include "nightshift.image" . | quote }}
{{- with .Values.hubEndpoint }}
hubEndpoint: {{ . | quote }}
{{- end }}
insecureRegistries: {{ .Values.insecureRegistries | toJson }}
defaults:
  engineVersion: {{ .Values.engine.version | toString | quote }}
  engineImage: {{ .Values.engine.image | quote }}
  accelerator: {{ .Values.defaultAccelerator | quote }}
accelerators:
  {{- range $name, $profile := .Values.accelerators }}
  {{- if $profile }}
  {{ $name | quote }}:
    {{- with omit $profile "requests" "limits" }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    requests: {
      {{- range $resource, $quantity := $profile.requests }}{{ $resource | quote }}: {{ $quantity | toString | quote }}, {{ end -}}
    }
    limits: {
      {{- range $resource, $quantity := $profile.limits }}{{ $resource | quote }}: {{ $quantity | toString | quote }}, {{ end -}}
    }
  {{- end }}
  {{- end }}
scrapers: {{ .Values.scrapers | toJson }}
{{- if .Values.gateway.enabled }}
gateway:
  namespace: {{ include "nightshift.gatewayNamespace" . | quote }}
  labels:
    {{- include "nightshift.gatewaySelectorLabels" . | nindent 4 }}
  service: {{ include "nightshift.gatewayName" . | quote }}
  port: {{ .Values.gateway.service.port }}
  replicas: {{ .Values.gateway.replicas }}
  agentPort: 8081
  shortNames: {{ .Values.gateway.shortNames | toJson }}
{{- end }}
clusterDomain: {{ .Values.clusterDomain | quote }}
workers: {{ .Values.workers }}
resyncSeconds: {{ .Values.resyncSeconds }}
livenessOverdueSeconds: {{ .Values.livenessOverdueSeconds }}
leaseName: {{ include "nightshift.leaseName" . | quote }}
watchNamespaces: {{ .Values.watchNamespaces | toJson }}
labelSelector: {{ .Values.labelSelector | quote }}
{{- end -}}

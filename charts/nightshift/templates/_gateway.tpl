{{- define "nightshift.gatewayName" -}}
{{- printf "%s-gateway" (include "nightshift.name" .) -}}
{{- end -}}

{{- define "nightshift.gatewayNamespace" -}}
{{- .Values.gateway.namespace | default (printf "%s-gateway" (include "nightshift.namespace" . | trunc 55 | trimSuffix "-")) -}}
{{- end -}}

{{/* Labels by which the gateway's pods are selected, also by the engines' NetworkPolicies. */}}
{{- define "nightshift.gatewaySelectorLabels" -}}
app.kubernetes.io/name: nightshift
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: gateway
{{- end -}}

{{- define "nightshift.gatewayLabels" -}}
{{ include "nightshift.gatewaySelectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Where nothing else is said, images/gateway was pushed beside images/operator. */}}
{{- define "nightshift.gatewayImage" -}}
{{- $own := .Values.gateway.image -}}
{{- $repository := $own.repository | default (regexReplaceAll "[^/]+$" .Values.image.repository "gateway") -}}
{{- if not $repository -}}
{{- fail "image.repository is not set: build images/operator and images/gateway, push them, and install with --set image.repository=YOUR-REGISTRY/nightshift/operator" -}}
{{- end -}}
{{- if $own.digest -}}
{{- printf "%s@%s" $repository $own.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository ($own.tag | default .Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* What the agent reads of the engines. */}}
{{- define "nightshift.gatewayRules" -}}
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
{{- end -}}

{{/* The steps of a gateway pod's end, in seconds after it began. Nobody new is sent to it from the beginning on, but
     that takes a moment to be known everywhere: HAProxy goes on listening, and takes back what the activator held. */}}
{{- define "nightshift.gatewayListenSeconds" -}}30{{- end -}}
{{- define "nightshift.gatewayHoldSeconds" -}}5{{- end -}}

{{- define "nightshift.gatewayContainerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "nightshift.gatewayIdentity" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: NIGHTSHIFT_GATEWAY_REPLICAS
  value: {{ .Values.gateway.replicas | quote }}
- name: NIGHTSHIFT_LOG_LEVEL
  value: {{ .Values.logLevel }}
{{- end -}}

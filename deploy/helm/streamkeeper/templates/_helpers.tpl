{{- define "streamkeeper.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "streamkeeper.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "streamkeeper.labels" -}}
{{ include "streamkeeper.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "streamkeeper.tokenSecret" -}}
{{- .Values.adminToken.secret | default (printf "%s-admin" (include "streamkeeper.fullname" .)) -}}
{{- end -}}

{{/* The whole config.toml. What the chart writes itself must not stand in `config` as well: TOML forbids it, and the
pods would not start. */}}
{{- define "streamkeeper.config" -}}
{{- range $section := list "admin" "drain" -}}
{{- if regexMatch (printf "(?m)^\\s*(\\[\\s*%s\\s*\\]|%s\\s*[=.])" $section $section) $.Values.config -}}
{{- fail (printf "config: [%s] is written by the chart; take it out, see values.yaml" $section) -}}
{{- end -}}
{{- end -}}
{{- if gt (int .Values.drain.spreadSeconds) (int .Values.drain.timeoutSeconds) -}}
{{- fail "drain: spreadSeconds must not be above timeoutSeconds" -}}
{{- end -}}
{{ .Values.config | trim }}

[admin]
token = { env = "STREAMKEEPER_ADMIN_TOKEN" }

[drain]
timeout = "{{ int .Values.drain.timeoutSeconds }}s"
spread = "{{ int .Values.drain.spreadSeconds }}s"
{{- end -}}

{{/* The container itself, without what differs between standing alone and being a sidecar. */}}
{{- define "streamkeeper.container" -}}
name: streamkeeper
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [run, --config, /etc/streamkeeper/config.toml, --listen, "0.0.0.0:8080", --admin, "0.0.0.0:8081"]
ports:
  - name: streams
    containerPort: 8080
  - name: admin
    containerPort: 8081
env:
  - name: STREAMKEEPER_ADMIN_TOKEN
    valueFrom:
      secretKeyRef:
        name: {{ include "streamkeeper.tokenSecret" . }}
        key: {{ .Values.adminToken.key }}
  {{- range .Values.secretEnv }}
  - name: {{ .name }}
    valueFrom:
      secretKeyRef:
        name: {{ .secret }}
        key: {{ .key }}
  {{- end }}
volumeMounts:
  - name: streamkeeper-config
    mountPath: /etc/streamkeeper
    readOnly: true
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
startupProbe:
  httpGet:
    path: /readyz
    port: admin
  periodSeconds: 1
  failureThreshold: 30
readinessProbe:
  httpGet:
    path: /readyz
    port: admin
  periodSeconds: 2
  failureThreshold: 1
livenessProbe:
  httpGet:
    path: /healthz
    port: admin
  periodSeconds: 10
  failureThreshold: 3
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "streamkeeper.volumes" -}}
- name: streamkeeper-config
  configMap:
    name: {{ include "streamkeeper.fullname" . }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* For the charts of others: an entry of initContainers. The pod's other entries are `streamkeeper.volumes`, and a
terminationGracePeriodSeconds that covers the app's own end and then drain.timeoutSeconds. */}}
{{- define "streamkeeper.sidecar" -}}
- restartPolicy: Always
  {{- include "streamkeeper.container" . | nindent 2 }}
{{- end -}}

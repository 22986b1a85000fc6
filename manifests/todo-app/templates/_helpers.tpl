{{/* Labels and selector of a component; the argument is its name. Selectors are immutable: nothing that varies. */}}
{{- define "todo-app.labels" -}}
app: todo-chatbot
component: {{ . }}
{{- end }}

{{/* The argument is a component's `image`. */}}
{{- define "todo-app.image" -}}
{{ .repository }}{{ with .tag }}:{{ . }}{{ end }}
{{- end }}

{{/* The data of ConfigMap todo-config. */}}
{{- define "todo-app.config" -}}
{{- $mcp := ternary "http://127.0.0.1:8001/mcp" "http://todo-mcp:8001/mcp" .Values.mcp.insideBackend }}
{{- $shutdown := sub (.Values.terminationGracePeriodSeconds | int) 10 | toString }}
{{- $cookie := printf "session-%s" .Release.Namespace }}
{{- $derived := dict "BACKEND_URL" "http://todo-backend:8000" "MCP_URL" $mcp "SESSION_COOKIE" $cookie "SHUTDOWN_SECONDS" $shutdown }}
{{- toYaml (mergeOverwrite $derived .Values.config) }}
{{- end }}

{{/* The data of the Secret: `data`, since `stringData` under server-side apply never loses a key. */}}
{{- define "todo-app.secret" -}}
database-url: {{ .Values.secret.databaseUrl | b64enc | quote }}
jwt-secret: {{ .Values.secret.jwtSecret | b64enc | quote }}
openai-api-key: {{ .Values.secret.openaiApiKey | b64enc | quote }}
{{- end }}

{{/* Pod annotations that change with what a container reads only when it starts. */}}
{{- define "todo-app.checksum.config" -}}
checksum/config: {{ include "todo-app.config" . | sha256sum }}
{{- end }}

{{- define "todo-app.checksum.secret" -}}
{{- if .Values.secret.create -}}
checksum/secret: {{ include "todo-app.secret" . | sha256sum }}
{{- end }}
{{- end }}

{{/* Deployment spec: how a component is rolled out; the argument is its name. */}}
{{- define "todo-app.rollout" -}}
revisionHistoryLimit: 3
progressDeadlineSeconds: 300
strategy:
  type: RollingUpdate
  rollingUpdate:
    maxSurge: 1
    maxUnavailable: 0
selector:
  matchLabels:
    {{- include "todo-app.labels" . | nindent 4 }}
{{- end }}

{{/* Pod spec: what every pod has in common; the argument is a dict of `component` and `root`. */}}
{{- define "todo-app.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
terminationGracePeriodSeconds: {{ .root.Values.terminationGracePeriodSeconds | int }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "todo-app.labels" .component | nindent 8 }}
    # Only pods of one revision count, or a rollout would end uneven.
    matchLabelKeys: [pod-template-hash]
volumes:
  - name: tmp
    emptyDir:
      sizeLimit: 64Mi
  {{- if and .root.Values.database.caSecret (ne .component "frontend") }}
  - name: database
    secret:
      secretName: {{ .root.Values.database.caSecret }}
      items:
        - key: ca.crt
          path: ca.crt
  {{- end }}
{{- end }}

{{/* Container: what every container has in common; the argument is a dict of `component` and `root`. */}}
{{- define "todo-app.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
volumeMounts:
  - name: tmp
    mountPath: /tmp
  {{- if and .root.Values.database.caSecret (ne .component "frontend") }}
  - name: database
    mountPath: /etc/todo/database
    readOnly: true
  {{- end }}
envFrom:
  - configMapRef:
      name: todo-config
{{- end }}

{{/*
Container: probes; the argument is a dict of `port`, and two paths.
`ready` says whether traffic may come, `live` whether a restart would help. It never cures a dependency that
is away, so `live` leaves dependencies out: `exclude` names a check, as in kube-apiserver's /livez.
*/}}
{{- define "todo-app.probes" -}}
startupProbe:
  httpGet:
    path: {{ .live | quote }}
    port: {{ .port }}
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: 60
readinessProbe:
  httpGet:
    path: {{ .ready | quote }}
    port: {{ .port }}
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 2
livenessProbe:
  httpGet:
    path: {{ .live | quote }}
    port: {{ .port }}
  periodSeconds: 10
  timeoutSeconds: 2
  failureThreshold: 3
{{- end }}

{{/* Container: keep serving until the Services have stopped sending traffic here. */}}
{{- define "todo-app.drain" -}}
lifecycle:
  preStop:
    sleep:
      seconds: 5
{{- end }}

{{/* Container: what backend and MCP server read from the Secret. */}}
{{- define "todo-app.secretEnv" -}}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.secret.name }}
      key: database-url
- name: JWT_SECRET
  valueFrom:
    secretKeyRef:
      name: {{ .Values.secret.name }}
      key: jwt-secret
{{- end }}

{{/* The MCP server's container, the same in its own pod and beside the backend. */}}
{{- define "todo-app.mcp" -}}
name: mcp
image: {{ include "todo-app.image" .Values.mcp.image }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
ports:
  - name: mcp
    containerPort: 8001
env:
  {{- include "todo-app.secretEnv" . | nindent 2 }}
resources:
  {{- toYaml .Values.mcp.resources | nindent 2 }}
{{ include "todo-app.container" (dict "component" "mcp" "root" .) }}
{{ include "todo-app.probes" (dict "port" "mcp" "ready" "/health" "live" "/health?exclude=database") }}
{{- end }}

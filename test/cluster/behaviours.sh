# behaviours.sh has the behaviours of a cluster, each a function that fails or prints a line with
# what shows it. run.sh sources it.

system() { kubectl --namespace kube-system "$@"; }
# on_docker POD... tells that Docker runs a container of each of these pods.
on_docker() {
	local pod
	for pod in "$@"; do
		[ -n "$(docker ps --quiet --filter "label=io.kubernetes.pod.name=$pod" --filter label=io.kubernetes.container.name)" ] || { echo "no container of $pod"; return 1; }
	done
}

control_plane() {
	local pods=(etcd-node kube-apiserver-node kube-controller-manager-node kube-scheduler-node)
	await system wait --for=condition=Ready --timeout=60s "${pods[@]/#/pod/}"
	on_docker "${pods[@]}"
	shown "the control plane's static pods run" "${pods[*]}"
}

node_is_ready() {
	await kubectl wait --for=condition=Ready --timeout=60s node/node
	local wide
	wide=$(kubectl get node node --no-headers -o wide)
	like "the node" "$wide" "node *Ready*mascri://*"
	shown "the node is Ready" "$(tr -s ' ' <<<"$wide")"
	await test -s /var/lib/mascri/runtime.json
	shown "the cluster gives the node its pod CIDR, and MasCRI has it" "$(kubectl get node node -o jsonpath='{.spec.podCIDR}')" "$(cat /var/lib/mascri/runtime.json)"
}

addons() {
	kubectl taint node node node-role.kubernetes.io/control-plane- >/dev/null
	await system wait --for=condition=Ready --timeout=60s pod -l k8s-app=kube-proxy
	await system rollout status --timeout=60s deployment/coredns
	shown "kube-proxy and CoreDNS run" "$(system get pods -l 'k8s-app in (kube-dns, kube-proxy)' --no-headers -o custom-columns=:.metadata.name,:.status.podIP | tr -s ' \n' ' ')"
}

deployment() {
	kubectl apply -f - >/dev/null <<YAML
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: localhost/web:1
        command: [sh, -c, 'mkdir /www; echo "\$(hostname) \$(cat /etc/version)" >/www/index.html; echo serving; exec httpd -f -p 8080 -h /www']
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 2, timeoutSeconds: 20}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}], type: NodePort}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: client, image: localhost/web:1, stdin: true, command: [sh, -c, 'trap exit TERM; echo client is up; while true; do if read -r line; then echo "got \$line"; else sleep 1; fi; done']}
YAML
	await kubectl rollout status --timeout=60s deployment/web
	await kubectl wait --for=condition=Ready --timeout=60s pod/client
	shown "a Deployment of three replicas runs" "$(kubectl get pods -l app=web --no-headers -o custom-columns=:.metadata.name,:.status.podIP | tr -s ' \n' ' ')"
	local ip
	ip=$(kubectl get service web -o jsonpath='{.spec.clusterIP}')
	replied by_ip "http://$ip/"
	shown "its Service is reached by its cluster IP from a pod" "$ip:" "$by_ip"
	replied by_name "http://web.default.svc.cluster.local/"
	like "the name web" "$(kubectl exec client -- wget -q -O - http://web/)" "web-*"
	shown "its Service is reached by its DNS name from a pod" "web:" "$by_name"
	ip=$address:$(kubectl get service web -o jsonpath='{.spec.ports[0].nodePort}')
	like "the node port" "$(busybox wget -q -O - "http://$ip/")" "web-*"
	shown "its Service is reached by its node port from the node" "$ip"
}

# replied VARIABLE URL asks 60 times from the client, until kube-proxy knows three replicas.
replied() {
	all_answer() {
		kubectl exec client -- sh -c "for i in \$(seq 60); do wget -q -O - $1 || exit; done" | sort | uniq -c >"$work/replies"
		[ "$(wc -l <"$work/replies")" = 3 ]
	}
	await all_answer "$2"
	printf -v "$1" '%s' "$(awk '{ printf "%s%s %s times", sep, $2, $1; sep = ", " }' "$work/replies")"
}

streams() {
	same "the log" "$(kubectl logs client)" "client is up"
	shown "kubectl logs" "client is up"
	local rc=0
	same "what cat repeats" "$(printf 'through it' | kubectl exec -i client -- cat)" "through it"
	kubectl exec client -- sh -c 'exit 7' >/dev/null 2>&1 || rc=$?
	same "the exit code" $rc 7
	shown "kubectl exec" "standard input comes back, exit code $rc"
	# Attach ends with its input, and may end before the answer: the log has it.
	echo hello | timeout 60 kubectl attach -i client >/dev/null 2>&1 || true
	answered() { kubectl logs client | grep -x 'got hello'; }
	await answered
	shown "kubectl attach" "$(cat "$work/await.out")"
	kubectl port-forward service/web 18080:80 >"$work/port-forward.log" 2>&1 &
	local forward=$!
	through() { busybox wget -q -O - http://127.0.0.1:18080/; }
	await through
	like "what port-forward brings" "$(cat "$work/await.out")" "web-*"
	kill $forward
	shown "kubectl port-forward" "$(cat "$work/await.out")"
	seq 100000 >"$work/there"
	kubectl cp "$work/there" client:/tmp/there
	kubectl cp client:/tmp/there "$work/back" >/dev/null
	cmp "$work/there" "$work/back"
	shown "kubectl cp" "$(stat -c %s "$work/back") bytes there and back"
}

volumes() {
	kubectl create configmap settings --from-literal=colour=blue >/dev/null
	kubectl create secret generic login --from-literal=password=sesame >/dev/null
	kubectl apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Pod
metadata: {name: volumes}
spec:
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: settings, configMap: {name: settings}}
  - {name: login, secret: {secretName: login}}
  - {name: kubectl, hostPath: {path: $programs/kubectl, type: File}}
  - {name: token, projected: {sources: [{serviceAccountToken: {path: token, audience: somebody}}]}}
  containers:
  - name: main
    image: localhost/web:1
    command: [sh, -c, 'trap exit TERM; sleep inf & wait']
    env: [{name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}]
    volumeMounts: [{name: settings, mountPath: /settings}, {name: login, mountPath: /login}, {name: token, mountPath: /own}, {name: kubectl, mountPath: /bin/kubectl}]
YAML
	await kubectl wait --for=condition=Ready --timeout=60s pod/volumes
	same "what the volumes hold" "$(kubectl exec volumes -- sh -c 'cat /settings/colour; echo " $COLOUR $(cat /login/password)"')" "blue blue sesame"
	like "the token's claims" "$(kubectl exec volumes -- cat /own/token | cut -d. -f2 | tr '_-' '/+' | base64 -d 2>/dev/null || true)" '*"somebody"*system:serviceaccount:default:default*'
	shown "ConfigMap, Secret and projected token are in the pod" "blue, sesame, a token for \"somebody\""
	local who
	who=$(kubectl exec volumes -- kubectl auth whoami -o 'jsonpath={.status.userInfo.username}')
	same "whom the API takes the pod for" "$who" system:serviceaccount:default:default
	shown "a pod talks to the API with its service account's token" "$who"
	kubectl delete pod volumes --wait=false >/dev/null
}

stats() {
	local pod counted
	pod=$(kubectl get pods -l app=web -o jsonpath='{.items[0].metadata.name}')
	told() {
		kubectl get --raw /api/v1/nodes/node/proxy/stats/summary | python3 -c '
import json, sys
for pod in json.load(sys.stdin)["pods"]:
    if pod["podRef"]["name"] == sys.argv[1]:
        print(pod["cpu"]["usageCoreNanoSeconds"], "ns of CPU,", pod["memory"]["workingSetBytes"], "bytes of memory,", pod["network"]["rxBytes"], "bytes received")
        sys.exit(0 if pod["cpu"]["usageCoreNanoSeconds"] and pod["memory"]["workingSetBytes"] and pod["network"]["rxBytes"] else 1)
sys.exit(1)' "$pod"
	}
	await told
	counted=$(cat "$work/await.out")
	shown "stats/summary by the API's proxy" "$pod: $counted"
}

runtime_classes() {
	kubectl apply -f - >/dev/null <<YAML
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: known}
handler: runc
---
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: unknown}
handler: nowhere
---
apiVersion: v1
kind: Pod
metadata: {name: known}
spec: {runtimeClassName: known, restartPolicy: Never, containers: [{name: main, image: localhost/web:1, command: [echo, done]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: unknown}
spec: {runtimeClassName: unknown, restartPolicy: Never, containers: [{name: main, image: localhost/web:1, command: [echo, done]}]}
YAML
	await kubectl wait --for=jsonpath='{.status.phase}'=Succeeded --timeout=60s pod/known
	shown "a RuntimeClass whose handler Docker has" "runc: $(docker inspect -f '{{.HostConfig.Runtime}}' "$(docker ps --all --quiet --filter label=io.kubernetes.pod.name=known | head -n 1)"), $(kubectl logs known)"
	refused() { kubectl events --for pod/unknown | grep -o 'Failed to create pod sandbox.*nowhere.*'; }
	await refused
	shown "a RuntimeClass whose handler Docker has not is refused" "$(head -n 1 "$work/await.out")"
	kubectl delete pod known unknown --wait=false >/dev/null
}

host_ports() {
	kubectl apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Pod
metadata: {name: hostport}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: localhost/web:1
    command: [sh, -c, 'mkdir /www; echo by the host port >/www/index.html; exec httpd -f -p 8080 -h /www']
    ports: [{containerPort: 8080, hostPort: 8088}]
    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 2, timeoutSeconds: 20}
YAML
	await kubectl wait --for=condition=Ready --timeout=60s pod/hostport
	same "the page" "$(busybox wget -q -O - http://$address:8088/)" "by the host port"
	same "the page from a pod" "$(kubectl exec client -- wget -q -O - http://$address:8088/)" "by the host port"
	shown "a host port beside kube-proxy" "$address:8088 from the node and from a pod"
	kubectl delete pod hostport --wait=false >/dev/null
}

rolling_update() {
	local before versions
	before=$(kubectl get replicasets -l app=web -o jsonpath='{.items[0].metadata.name}')
	kubectl set image deployment/web web=localhost/web:2 >/dev/null
	await kubectl rollout status --timeout=60s deployment/web
	same "replicas of the old version" "$(kubectl get replicaset "$before" -o jsonpath='{.status.replicas}')" 0
	old_is_gone() { [ "$(kubectl get pods -l app=web --no-headers | wc -l)" = 3 ]; }
	await old_is_gone
	versions=$(kubectl exec client -- sh -c 'for i in $(seq 20); do wget -q -O - http://web/; done' | cut -d' ' -f2 | sort | uniq -c | tr -s ' ')
	like "the versions that answer" "$versions" " 20 2"
	shown "a rolling update" "version 1 to 2; then 20 of 20 answers are of version 2"
}

jobs_and_debug() {
	kubectl create job once --image=localhost/web:1 -- echo done once >/dev/null
	await kubectl wait --for=condition=Complete --timeout=60s job/once
	shown "a Job runs to its end" "$(kubectl logs job/once)"
	kubectl debug client --image=localhost/web:1 --target=client --container=debugger -- sh -c 'tr "\0" " " </proc/1/cmdline' >/dev/null 2>&1
	debugged() { kubectl logs client -c debugger | grep 'client is up'; }
	await debugged
	shown "kubectl debug sees the processes of its target" "$(cut -c 1-60 "$work/await.out")"
}

drain() {
	kubectl drain node --ignore-daemonsets --delete-emptydir-data --force --timeout=300s >"$work/drain.log" 2>&1
	local left
	left=$(crictl pods --state ready -o json | python3 -c 'import json, sys; print(*sorted(p["metadata"]["name"] for p in json.load(sys.stdin)["items"]))')
	like "what a drain leaves" "$left" "etcd-node kube-apiserver-node kube-controller-manager-node kube-proxy-????? kube-scheduler-node"
	kubectl uncordon node >/dev/null
	await kubectl rollout status --timeout=60s deployment/web
	await system rollout status --timeout=60s deployment/coredns
	shown "kubectl drain and uncordon" "the drain left $left; then web and coredns came back"
}

reset_node() {
	kill $kubelet
	wait $kubelet || true
	kubeadm reset --force --cri-socket "$socket" >"$work/reset.log" 2>&1
	nothing "$(crictl pods -q)" "$(docker ps --all --quiet)" "$(find /run/netns -mindepth 1 2>/dev/null)" "$(ip -o link show master cni0)" \
		"$(find /var/lib/cni -name '10.244.*')" "$(find /var/lib/mascri/attachments -type f)"
	shown "kubeadm reset --cri-socket leaves no pod" "no pod, container, network namespace, veth, IP or record is left"
}

# nothing TEXT... fails unless each text is empty.
nothing() { [ -z "$(printf %s "$@")" ] || { echo "error: left: $*" >&2; false; }; }

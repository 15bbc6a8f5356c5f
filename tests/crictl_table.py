"""What crictl 1.36 has, as `crictl COMMAND --help` tells it, and for each of it what is expected: rows for
crictl_table_test.py.

COMMANDS: "name alias …: flag flag …"; names of one flag are joined by "/"; "=" ends a flag with a value.
Rows: the words of the line; {name} is an object of the test, made anew for each run when it is one of FRESH there.
"""

GLOBAL = """-c/--config= -D/--debug --enable-tracing -i/--image-endpoint= --max-retries= --profile-cpu= --profile-mem=
  -r/--runtime-endpoint= -t/--timeout= --tracing-endpoint= --tracing-sampling-rate-per-million= -h/--help -v/--version"""
ENVIRONMENT = "CRI_CONFIG_FILE CONTAINER_RUNTIME_ENDPOINT IMAGE_SERVICE_ENDPOINT CRICTL_AUTH CRICTL_CREDS CRICTL_PULL_TIMEOUT"
CONFIG = "runtime-endpoint image-endpoint timeout debug pull-image-on-create disable-pull-on-run max-retries"
COMMANDS = """
attach: -i/--stdin --tls-ca= --tls-cert= --tls-key= --tls-sni/--tls-server-name= -r/--transport= -t/--tty
checkpoint: -e/--export=
completion:
config: --get= --list --set=
create: --auth= -T/--cancel-timeout= --creds= --no-pull --pull-timeout/--pt= -u/--username= --with-pull
create jsonschema js: -p/--pod -c/--container
events event: -o/--output= --template=
exec: -e/--ignore-errors --image= -i/--interactive --label= -n/--last= -l/--latest --name= -x/--parallel -p/--pod= -q/--quiet
  --state= -s/--sync --timeout= --tls-ca= --tls-cert= --tls-key= --tls-sni/--tls-server-name= -r/--transport= -t/--tty
imagefsinfo: -o/--output= --template=
images image img: --digests -f/--filter= --no-trunc -o/--output= --pinned -q/--quiet -v/--verbose
info: -o/--output= -q/--quiet --template=
inspect: -a/--all --image= --label= -n/--last= -l/--latest --name= --namespace= -o/--output= -p/--pod= -q/--quiet -s/--state=
  --template=
inspecti: -f/--filter= --name= -o/--output= -q/--quiet --template=
inspectp: --label= -n/--last= -l/--latest --name= --namespace= -o/--output= -q/--quiet -s/--state= --template=
logs: -f/--follow --limit-bytes= -p/--previous -r/--reopen --since= -s/--stream= --tail= -t/--timestamps
metricdescs: -o/--output=
metricsp: -o/--output= -w/--watch
pods: --id= --label= -n/--last= -l/--latest --name= --namespace= --no-trunc -o/--output= -q/--quiet -s/--state= -v/--verbose
port-forward: --tls-ca= --tls-cert= --tls-key= --tls-sni/--tls-server-name= -r/--transport=
ps: -a/--all --id= --image= --label= -n/--last= -l/--latest --name= --namespace= --no-trunc -o/--output= -p/--pod= -q/--quiet
  -r/--resolve-image-path -s/--state= -v/--verbose
pull: -a/--annotation= --auth= --creds= --pod-config= --pull-timeout/--pt= -u/--username=
pull jsonschema js:
rm: -a/--all -f/--force -k/--keep-logs
rmi: -a/--all -q/--prune
rmp: -a/--all -f/--force
run: --auth= -T/--cancel-timeout= --creds= --no-pull --pull-timeout/--pt= -r/--runtime= -u/--username= --with-pull
run jsonschema js: -p/--pod -c/--container
runp: -T/--cancel-timeout= -r/--runtime=
runp jsonschema js:
runtime-config:
start:
stats: -a/--all --id= --label= -o/--output= -p/--pod= -s/--seconds= -w/--watch
statsp: --id= --label= -o/--output= -s/--seconds= -w/--watch
stop: -a/--all -t/--timeout=
stopp:
update: --cpu-count= --cpu-maximum= --cpu-period= --cpu-quota= --cpu-share= --cpuset-cpus= --cpuset-mems= --memory=
  --oom-score-adj=
update-runtime-config: -p/--pod-cidr=
version:
help h:
"""


class Row:
    """One line to call and what it is to do.

    code: the exit code, or {runtime: code}. has, lacks: texts in stdout. error: text in stderr of ours. effect: a
    function of test_table.Objects below, called after the line, that says whether it did what it says.
    same: how stdout is compared with upstream's: text, json (what moves is not compared), cells; None: not at all, and
    `why` says why not. theirs: upstream's exit code where ours differs on purpose, for the reason `why`.
    """

    def __init__(self, words, code=0, has=(), lacks=(), error="", effect=None, same="text", why="", theirs=None, stdin=None,
                 terminal=False, live=None, environment=None, config=None):
        self.words, self.code, self.error, self.effect = words, code, error, effect
        self.has, self.lacks = ([t] if isinstance(t, str) else t for t in (has, lacks))
        self.same, self.why, self.theirs, self.stdin = same, why, theirs, stdin
        self.terminal, self.live, self.environment, self.config = terminal, live, environment or {}, config or {}


def state(name):
    return lambda wanted: lambda o: o.container_state(name) == wanted


def resources(name, key, value):
    return lambda o: o.resources(name).get(key) == value


NO_CALL = {"crisp": 0, "containerd": 1}  # Debian's containerd 1.6 has no such call
TLS = "--tls-ca {dir}/tls.pem --tls-cert {dir}/tls.pem --tls-key {dir}/tls.key"  # only read where the server speaks http
MOVES = "what it tells changes all the time"
EMPTY = "upstream adds empty lines"

ROWS = [
    # ---- global flags, environment, configuration
    Row("--config {config} version", has="RuntimeName:"),
    Row("--debug version", has="RuntimeName:"),
    Row("--enable-tracing --tracing-endpoint 127.0.0.1:1 --tracing-sampling-rate-per-million 1 version", has="RuntimeName:"),
    Row("--image-endpoint {endpoint} images", has="busybox", same="cells"),
    Row("--image-endpoint unix:///no/such.sock --max-retries 0 images", code=1),
    Row("--max-retries 1 version", has="RuntimeName:"),
    Row("--profile-cpu {dir}/cpu.profile version", effect=lambda o: o.file("cpu.profile")),
    Row("--profile-mem {dir}/mem.profile version", effect=lambda o: o.file("mem.profile")),
    Row("--runtime-endpoint {endpoint} version", has="RuntimeName:"),
    Row("--runtime-endpoint unix:///no/such.sock --max-retries 0 version", code=1, error="no/such.sock"),
    Row("--timeout 20s version", has="RuntimeName:"),
    Row("--timeout soon version", code=1),
    Row("--help", has=["runtime-endpoint", "port-forward"], same=None, why="words of our own"),
    Row("--version", has="crictl version", same=None, why="another version",),
    Row("help", has="port-forward", same=None, why="words of our own"),
    Row("help ps", has="--resolve-image-path", same=None, why="words of our own"),
    Row("ps help", has="--resolve-image-path", same=None, why="words of our own"),
    Row("frobnicate", code=3),
    Row("version", environment={"CONTAINER_RUNTIME_ENDPOINT": "unix:///no/such.sock"}, config={"max-retries": "0"}, code=1),
    Row("images", environment={"IMAGE_SERVICE_ENDPOINT": "unix:///no/such.sock"}, config={"max-retries": "0"}, code=1),
    Row("version", environment={"CRI_CONFIG_FILE": "{dir}/wrong.yaml"}, code=1),
    Row("pull {private}", environment={"CRICTL_CREDS": "user:secret"}, has="up to date"),
    Row("pull {private}", environment={"CRICTL_CREDS": "user:wrong"}, code=1),
    Row("pull {private}", environment={"CRICTL_AUTH": "dXNlcjpzZWNyZXQ="}, has="up to date"),
    Row("pull {image}", environment={"CRICTL_PULL_TIMEOUT": "60s"}, has="up to date"),
    Row("pull {image}", environment={"CRICTL_PULL_TIMEOUT": "1ns"}, code=1),
    Row("version", config={"runtime-endpoint": "unix:///no/such.sock", "max-retries": "0"}, code=1),
    Row("images", config={"image-endpoint": "unix:///no/such.sock", "max-retries": "0"}, code=1),
    Row("version", config={"timeout": "20"}, has="RuntimeName:"),
    Row("version", config={"debug": "true"}, has="RuntimeName:"),
    Row("create {pod} {missingfile} {podfile}", config={"pull-image-on-create": "true"}, effect=state("last")("CREATED")),
    Row("create {pod} {missingfile} {podfile}", config={"pull-image-on-create": "false"}, code=1),
    Row("run {missingfile} {newpodfile}", config={"disable-pull-on-run": "true"}, code=1),
    Row("run {missingfile} {newpodfile}", config={"disable-pull-on-run": "false"}, effect=state("last")("RUNNING")),
    Row("version", config={"max-retries": "1"}, has="RuntimeName:"),
    Row("config --list", has=["runtime-endpoint", "max-retries"], same="cells"),
    Row("config --get timeout", has="60"),
    Row("config --get colour", code=1, error="max-retries"),
    Row("config --set timeout=7", effect=lambda o: o.setting("timeout") == "7"),
    Row("config --set debug=true,timeout=8", effect=lambda o: (o.setting("debug"), o.setting("timeout")) == ("true", "8")),
    Row("config timeout 9", effect=lambda o: o.setting("timeout") == "9"),
    Row("config --set colour=red", code=1),
    Row("config --set timeout=soon", code=1),
    Row("config --set debug=perhaps", code=1),
    # ---- what the runtime says about itself
    Row("version", has=["Version:", "RuntimeName:", "RuntimeVersion:", "RuntimeApiVersion:"]),
    Row("info --output json", has="RuntimeReady", same="json"),
    Row("info --output yaml", has="RuntimeReady", same=None, why="order of keys"),
    Row("info --quiet", has="RuntimeReady", lacks="cniconfig", same="json"),
    Row("info --output go-template --template '{{{{range .status.conditions}}}}{{{{.type}}}} {{{{end}}}}'", has="RuntimeReady NetworkReady"),
    Row("info --output xml", code=1),
    Row("runtime-config", code=NO_CALL, same="cells"),
    Row("update-runtime-config --pod-cidr 10.99.0.0/16"),
    Row("imagefsinfo --output json", has="imageFilesystems", same="json"),
    Row("imagefsinfo --output table", has="/", same=None, why=MOVES),
    Row("imagefsinfo --output go-template --template '{{{{len .status.imageFilesystems}}}}'", has="1"),
    # ---- images
    Row("images --digests", has="DIGEST", same="cells"),
    Row("images --digests --no-trunc", has="sha256:", same="cells"),
    Row("images --filter dangling=false", has="busybox", same="cells"),
    Row("images --filter reference=again", has="again", lacks="other", same="cells"),
    Row("images --filter colour=red", code=1),
    Row("images --pinned", has="PINNED", same="cells"),
    Row("images --quiet", has="{imageid}"),
    Row("images --verbose", has="RepoTags:", same="cells"),
    Row("images --output json", has='"repoTags"', same="json"),
    Row("images {image}", has="busybox", same="cells"),
    Row("inspecti {image}", has="repoTags", same="json"),
    Row("inspecti --quiet {image}", lacks="imageSpec", same="json"),
    Row("inspecti --name {image}", has="repoTags", same="json"),
    Row("inspecti --filter reference=again", has="again", same="json"),
    Row("inspecti --output yaml --quiet {image}", has="repoTags", same=None, why="order of keys"),
    Row("inspecti --output table --quiet {image}", has="Tag", same="cells"),
    Row("inspecti --output go-template --template '{{{{.status.id}}}}' {image}", has="{imageid}"),
    Row("inspecti nothing:1", code=1, error="no such image"),
    Row("pull {image}", has="Image is up to date for"),
    Row("pull --annotation a=b --annotation c=d {image}", has="up to date"),
    Row("pull --annotation a {image}", code=1),
    Row("pull --creds user:secret {private}", has="up to date"),
    Row("pull --creds user:wrong {private}", code=1),
    Row("pull --auth dXNlcjpzZWNyZXQ= {private}", has="up to date"),
    Row("pull --username user {private}", stdin="secret\n", terminal=True, has="up to date", same=None, why="a terminal"),
    Row("pull --pod-config {podfile} {image}", has="up to date"),
    Row("pull --pod-config {dir}/none {image}", code=1),
    Row("pull --pull-timeout 60s {image}", has="up to date"),
    Row("pull --pull-timeout 1ns {image}", code=1),
    Row("pull", code=1),
    Row("rmi {removable}", has="Deleted:", effect=lambda o: not o.has_image("removable")),
    Row("rmi nothing:1", code=1),
    Row("rmi --prune {removable}", has="Deleted:", effect=lambda o: not o.has_image("removable") and o.has_image("image"),
        same=None, why="the second finds others"),
    # ---- pods
    Row("runp {newpodfile}", effect=lambda o: o.pod_state("last") == "READY"),
    Row("runp --cancel-timeout 60s {newpodfile}", effect=lambda o: o.pod_state("last") == "READY"),
    Row("runp --cancel-timeout 1ns {newpodfile}", code=1),
    Row("runp --runtime runc {newpodfile}", effect=lambda o: o.pod_state("last") == "READY"),
    Row("runp --runtime nothing {newpodfile}", code=1),
    Row("runp {dir}/none", code=1),
    Row("stopp {newpod}", has="Stopped sandbox {newpod}", effect=lambda o: o.pod_state("newpod") == "NOTREADY"),
    Row("stopp nothing", code=1, error="pods lists pods", theirs={"crisp": 0, "containerd": 1}, why="ours finds names, so it looks for it first"),
    Row("rmp {stoppedpod}", has="Removed sandbox {stoppedpod}", effect=lambda o: not o.has_pod("stoppedpod")),
    Row("rmp {newpod}", code=1, error="is running"),
    Row("rmp --force {newpod}", has="Removed sandbox {newpod}", effect=lambda o: not o.has_pod("newpod")),
    Row("pods --id {pod}", has="{pod:.13}", lacks="{old:.13}", same="cells"),
    Row("pods --label app=web", has="{pod:.13}", lacks="{old:.13}", same="cells"),
    Row("pods --label app", code=1),
    Row("pods --last 1 --quiet", lacks="{pod}"),
    Row("pods --latest --quiet", lacks="{pod}"),
    Row("pods --name ^web$ --quiet", has="{pod}", lacks="{old}"),
    Row("pods --namespace shop --quiet", has="{pod}"),
    Row("pods --no-trunc --id {pod}", has="{pod}", same="cells"),
    Row("pods --output json --id {pod}", has='"{pod}"', same="json"),
    Row("pods --output yaml --quiet --id {pod}", has="{pod}", same=None, why="order of keys"),
    Row("pods --state NotReady --quiet", has="{old}", lacks="{pod}"),
    Row("pods --state sleepy", code=1),
    Row("pods --verbose --id {pod}", has="Name: web", same="cells"),
    Row("inspectp {pod}", has='"{pod}"', same="json"),
    Row("inspectp --quiet {pod}", lacks="cniResult", same="json"),
    Row("inspectp --label app=web", has='"{pod}"', same="json"),
    Row("inspectp --last 1", lacks='"{pod}"', same="json"),
    Row("inspectp --latest", lacks='"{pod}"', same="json"),
    Row("inspectp --name ^web$", has='"{pod}"', same="json"),
    Row("inspectp --namespace shop", has='"{pod}"', same="json"),
    Row("inspectp --state NotReady", has='"{old}"', same="json"),
    Row("inspectp --quiet --output table {pod}", has="{pod}", same="cells"),
    Row("inspectp --output go-template --template '{{{{.status.metadata.name}}}}' {pod}", has="web"),
    Row("inspectp nothing", code=1),
    # ---- containers
    Row("create {pod} {ctrfile} {podfile}", effect=state("last")("CREATED")),
    Row("create --no-pull {pod} {missingfile} {podfile}", code=1),
    Row("create --with-pull {pod} {missingfile} {podfile}", effect=state("last")("CREATED")),
    Row("create --with-pull --no-pull {pod} {ctrfile} {podfile}", code=1),
    Row("create --with-pull --creds user:secret {pod} {privatefile} {podfile}", effect=state("last")("CREATED")),
    Row("create --with-pull --creds user:wrong {pod} {privatefile} {podfile}", code=1),
    Row("create --with-pull --auth dXNlcjpzZWNyZXQ= {pod} {privatefile} {podfile}", effect=state("last")("CREATED")),
    Row("create --with-pull --username user {pod} {privatefile} {podfile}", stdin="secret\n", terminal=True,
        same=None, why="a terminal"),
    Row("create --with-pull --pull-timeout 60s {pod} {missingfile} {podfile}", effect=state("last")("CREATED")),
    Row("create --with-pull --pull-timeout 1ns {pod} {missingfile} {podfile}", code=1),
    Row("create --cancel-timeout 60s {pod} {ctrfile} {podfile}", effect=state("last")("CREATED")),
    Row("create --cancel-timeout 1ns {pod} {ctrfile} {podfile}", code=1),
    Row("create nothing {ctrfile} {podfile}", code=1),
    Row("create jsonschema --pod", has="PodSandboxConfig", same="json"),
    Row("create jsonschema --container", has="ContainerConfig", same="json"),
    Row("run {ctrfile} {newpodfile}", effect=state("last")("RUNNING")),
    Row("run --no-pull {missingfile} {newpodfile}", code=1),
    Row("run --with-pull {missingfile} {newpodfile}", config={"disable-pull-on-run": "true"}, effect=state("last")("RUNNING")),
    Row("run --creds user:secret {privatefile} {newpodfile}", effect=state("last")("RUNNING")),
    Row("run --creds user:wrong {privatefile} {newpodfile}", code=1),
    Row("run --auth dXNlcjpzZWNyZXQ= {privatefile} {newpodfile}", effect=state("last")("RUNNING")),
    Row("run --username user {privatefile} {newpodfile}", stdin="secret\n", terminal=True, same=None, why="a terminal"),
    Row("run --pull-timeout 60s {missingfile} {newpodfile}", effect=state("last")("RUNNING")),
    Row("run --pull-timeout 1ns {missingfile} {newpodfile}", code=1),
    Row("run --runtime runc {ctrfile} {newpodfile}", effect=state("last")("RUNNING")),
    Row("run --runtime nothing {ctrfile} {newpodfile}", code=1),
    Row("run --cancel-timeout 60s {ctrfile} {newpodfile}", effect=state("last")("RUNNING")),
    Row("run --cancel-timeout 1ns {ctrfile} {newpodfile}", code=1),
    Row("run jsonschema --pod", has="PodSandboxConfig", same="json"),
    Row("run jsonschema --container", has="ContainerConfig", same="json"),
    Row("runp jsonschema", has="PodSandboxConfig", same="json"),
    Row("pull jsonschema", has="PodSandboxConfig", same="json"),
    Row("start {created}", has="{created}", effect=state("created")("RUNNING")),
    Row("start nothing", code=1, error="ps -a lists containers"),
    Row("stop {running}", has="{running}", effect=state("running")("EXITED")),
    Row("stop --timeout 1 {running}", has="{running}", effect=state("running")("EXITED")),
    Row("stop nothing", code=1, theirs={"crisp": 0, "containerd": 1}, why="ours finds names, so it looks for it first"),
    Row("rm {exited}", has="{exited}", effect=lambda o: not o.has_container("exited")),
    Row("rm {running}", code=1, error="is running"),
    Row("rm --force {running}", has="{running}", effect=lambda o: not o.has_container("running"), same=None,
        why="upstream tells the stop by the same id"),
    Row("rm --keep-logs {exited}", has="{exited}", effect=lambda o: o.log_of("exited")),
    Row("rm nothing", code=1),
    Row("checkpoint --export {dir}/checkpoint.tar {main}", code=1),
    Row("checkpoint", code=1),
    Row("update --cpu-period 50000 --cpu-quota 20000 {running}", has="{running}", effect=resources("running", "cpuQuota", "20000")),
    Row("update --cpu-share 333 {running}", has="{running}", effect=resources("running", "cpuShares", "333")),
    Row("update --cpuset-cpus 0 {running}", has="{running}", effect=resources("running", "cpusetCpus", "0")),
    Row("update --cpuset-mems 0 {running}", has="{running}", effect=resources("running", "cpusetMems", "0")),
    Row("update --memory 33554432 {running}", has="{running}", effect=resources("running", "memoryLimitInBytes", "33554432")),
    Row("update --oom-score-adj 321 {running}", has="{running}"),
    Row("update --cpu-count 1 {running}", code=1, theirs={"crisp": 0, "containerd": 0}, why="of Windows: nothing would happen"),
    Row("update --cpu-maximum 1 {running}", code=1, theirs={"crisp": 0, "containerd": 0}, why="of Windows: nothing would happen"),
    Row("update --memory 33554432 nothing", code=1),
    Row("ps --all --quiet", has=["{main}", "{done}"]),
    Row("ps --quiet", has="{main}", lacks="{done}"),
    Row("ps --id {main} --quiet", has="{main}"),
    Row("ps --image {image} --quiet", has="{main}"),
    Row("ps --all --label app=web --quiet", has="{main}", lacks="{done}"),
    Row("ps --last 1 --quiet", lacks="{main}"),
    Row("ps --latest --quiet", lacks="{main}"),
    Row("ps --name ^main$ --quiet", has="{main}"),
    Row("ps --name ( --quiet", code=1),
    Row("ps --namespace shop --quiet", has="{main}"),
    Row("ps --namespace nowhere --quiet", lacks="{main}"),
    Row("ps --no-trunc --id {main}", has="{main}", same="cells"),
    Row("ps --output json --id {main}", has='"{main}"', same="json"),
    Row("ps --output xml", code=1),
    Row("ps --pod {pod} --quiet", has="{main}"),
    Row("ps --resolve-image-path --id {main}", has=":latest", same="cells"),
    Row("ps --state exited --quiet", has="{done}", lacks="{main}"),
    Row("ps --verbose --id {main}", has="Name: main", same="cells"),
    Row("inspect {main}", has='"{main}"', same="json"),
    Row("inspect --quiet {main}", lacks="runtimeSpec", same="json"),
    Row("inspect --all --pod {pod} --name done", has='"{done}"', same="json"),
    Row("inspect --image {image} --name ^main$", has='"{main}"', same="json"),
    Row("inspect --label app=web --pod {pod}", has='"{main}"', same="json"),
    Row("inspect --last 1", lacks='"{main}"', same="json"),
    Row("inspect --latest", lacks='"{main}"', same="json"),
    Row("inspect --namespace shop --name ^main$", has='"{main}"', same="json"),
    Row("inspect --state exited --name ^done$ --pod {pod}", has='"{done}"', same="json"),
    Row("inspect --quiet --output table {main}", has="{main}", same="cells"),
    Row("inspect --output go-template --template '{{{{.status.state}}}}' {main}", has="CONTAINER_RUNNING"),
    Row("inspect nothing", code=1),
    # ---- logs, exec, attach, port-forward
    Row("logs {main}", has="out 0"),
    Row("logs --tail 0 {main}", lacks="out 2"),
    Row("logs --tail 1 {done}", has="bye", lacks="hello"),
    Row("logs --stream stdout {main}", has="out 2"),
    Row("logs --stream stderr {main}", lacks="out 0", error="err"),
    Row("logs --limit-bytes 3 --stream stdout {main}", has="out", lacks="out 0"),
    Row("logs --since 2h {main}", has="out 0"),
    Row("logs --since 2099-01-01T00:00:00Z {main}", lacks="out 0"),
    Row("logs --timestamps {main}", has="Z out 0"),
    Row("logs --follow {done}", has="bye"),
    Row("logs --previous {second}", has="first attempt", lacks="second attempt"),
    Row("logs --previous {main}", code=1),
    Row("logs --reopen {main}", has="out 0"),
    Row("logs nothing", code=1, error="ps -a lists containers"),
    Row("exec --sync {main} echo hello", has="hello", same=None, why=EMPTY),
    Row("exec --sync --timeout 10 {main} echo hello", has="hello", same=None, why=EMPTY),
    Row("exec --sync --timeout 1 {main} sleep 100", code=1),
    Row("exec {main} echo hello", has="hello"),
    Row("exec --interactive {main} cat", stdin="through\n", has="through"),
    Row("exec --interactive --tty {main} tty", terminal=True, has="/dev/", same=None, why="a terminal"),
    Row("exec --ignore-errors {main} false"),
    Row("exec --image {image} --name ^main$ echo hello", has="hello"),
    Row("exec --label app=web --pod {pod} echo hello", has="hello"),
    Row("exec --last 1 --name ^main$ echo hello", has="hello"),
    Row("exec --latest --name ^main$ echo hello", has="hello"),
    Row("exec --state running --pod {pod} --name ^main$ echo hello", has="hello"),
    Row("exec --parallel --name ^main$ echo hello", has="hello"),
    Row("exec --quiet --name ^main$ echo hello", has="hello"),
    Row(f"exec --transport websocket {TLS} --tls-sni x {{main}} echo hello", has="hello",
        theirs={"crisp": 0, "containerd": 1}, why="Debian's containerd speaks an older WebSocket protocol, which ours knows"),
    Row(f"exec --transport spdy {TLS} --tls-server-name x {{main}} echo hello", has="hello"),
    Row("exec --transport pigeon {main} echo hello", code=1),
    Row("exec nothing echo hello", code=1),
    Row("attach --stdin {reader}", stdin="words\n", has="got words"),
    Row(f"attach --stdin --transport spdy {TLS} --tls-sni x {{reader}}", stdin="words\n", has="got words"),
    Row("attach --stdin --tty {ttyreader}", stdin="words\n", terminal=True, has="got words", same=None, why="a terminal"),
    Row("attach nothing", code=1),
    Row("port-forward {pod} 0:7070", live="forward", has="Forwarding from", same=None, why="ports"),
    Row(f"port-forward --transport spdy {TLS} --tls-server-name x {{pod}} :7070", live="forward", has="Forwarding from",
        same=None, why="ports"),
    Row("port-forward {pod} x:1", code=1),
    # ---- what moves
    Row("events", live={"crisp": "event", "containerd": None}, code={"crisp": None, "containerd": 1}, has="CONTAINER_", same=None, why=MOVES),
    Row("events --output go-template --template '{{{{.containerEventType}}}}'", live={"crisp": "event", "containerd": None},
        code={"crisp": None, "containerd": 1}, has="CONTAINER_", same=None, why=MOVES),
    Row("stats --id {main} --output json", has='"{main}"', same="json"),
    Row("stats --all --pod {pod} --output json", has='"{main}"', same="json"),
    Row("stats --label app=web --output json", has='"{main}"', same="json"),
    Row("stats --seconds 1 {main}", has="main", same=None, why=MOVES),
    Row("stats --watch --seconds 1", live="output", code=None, has="main", same=None, why=MOVES),
    Row("statsp --id {pod} --output json", has='"{pod}"', same="json"),
    Row("statsp --label app=web --output json", has='"{pod}"', same="json"),
    Row("statsp --seconds 1 {pod}", has="web", same=None, why=MOVES),
    Row("statsp --watch --seconds 1", live="output", code=None, has="web", same=None, why=MOVES),
    Row("metricdescs --output json", code=NO_CALL, same="json"),
    Row("metricsp --output json", code=NO_CALL, same=None, why=MOVES),
    Row("metricsp --watch", live={"crisp": "output", "containerd": None}, code={"crisp": None, "containerd": 1}, same=None, why=MOVES),
    # ---- shells
    Row("completion bash", has="complete", same=None, why="a script of our own"),
    Row("completion zsh", has="compdef", same=None, why="a script of our own"),
    Row("completion fish", has="complete -c", same=None, why="a script of our own"),
    Row("completion powershell", code=1),
    # ---- all of a kind: nothing but what stands is left of the others
    Row("stop --all", effect=lambda o: o.container_state("main") == "EXITED", same=None, why="the second finds none"),
    Row("rm --all --force", effect=lambda o: not o.has_container("done"), same=None, why="the second finds none"),
    Row("rmp --all --force", effect=lambda o: not o.has_pod("pod"), same=None, why="the second finds none"),
    Row("rmi --all", effect=lambda o: not o.has_image("image"), same=None, why="the second finds none"),
]

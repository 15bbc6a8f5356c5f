#!/usr/bin/python3
"""Pods from a real registry image, end to end: runc and crun, the built-in network and Debian's CNI plugins, logs,
exit codes, exec, resources, and nothing left afterwards."""
import contextlib
import harness
import http.client
import json
import os
import re
import signal

from harness import Skip, check, check_equal, check_error, eventually
from world import World

LOG_LINE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d) (stdout|stderr) [PF] ")


def fetch(address):
    """What a web server answers to the host; nothing while nobody listens."""
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    except OSError:
        return b""
    finally:
        connection.close()


def life(node, handler):
    w = World(node, handler)
    pod, config = w.pod(labels={"app": "web"}, annotations={"note": "x"})
    status = w.client.PodSandboxStatus(pod_sandbox_id=pod).status
    check_equal(status.state, w.pb.SANDBOX_READY, "sandbox state")
    check_equal(dict(status.labels), {"app": "web"}, "labels")
    check(status.network.ip.startswith("10.88."), f"pod ip {status.network.ip!r}")
    container = w.container(pod, config, command=["/bin/sh", "-c", "echo out; echo err >&2; exec sleep 1000"])
    s = w.status(container)
    check_equal(s.state, w.pb.CONTAINER_RUNNING, "container state")
    check_equal(s.image_ref, w.client.ImageStatus(image=w.pb.ImageSpec(image=w.image)).image.repo_digests[0], "image_ref")
    check_equal(s.image_id, w.image, "image_id")
    log = f"{config.log_directory}/main.log"
    eventually(lambda: os.path.getsize(log) > 0 and len(open(log).readlines()) == 2, "two log lines")
    for line in open(log):
        check(LOG_LINE.match(line), f"log line {line!r}")
    reply = w.sh(container, "echo hello; echo oops >&2; exit 3")
    check_equal((reply.stdout, reply.stderr, reply.exit_code), (b"hello\n", b"oops\n", 3), "exec")
    check_equal(w.sh(container, "hostname").stdout, b"pod\n", "hostname")
    w.client.StopContainer(container_id=container, timeout=0)
    s = w.wait_exit(container)
    check_equal(s.exit_code, 137, "exit code of a killed container")
    w.client.StopContainer(container_id=container, timeout=0)  # again: success
    w.client.StopPodSandbox(pod_sandbox_id=pod)
    w.client.StopPodSandbox(pod_sandbox_id=pod)
    check_equal(w.client.PodSandboxStatus(pod_sandbox_id=pod).status.state, w.pb.SANDBOX_NOTREADY, "stopped state")
    w.client.RemovePodSandbox(pod_sandbox_id=pod)
    w.client.RemovePodSandbox(pod_sandbox_id=pod)
    check_error(lambda: w.client.PodSandboxStatus(pod_sandbox_id=pod), "NOT_FOUND")
    w.finish()


def test_life_with_runc(node):
    life(node, "runc")


def test_life_with_crun(node):
    life(node, "crun")


def test_life_with_native(node):
    life(node, "native")


def test_exit_codes_and_reasons(node):
    w = World(node)
    pod, config = w.pod()
    for script, code, reason in [("exit 0", 0, "Completed"), ("exit 42", 42, "Error"), ("kill -9 $$", 137, "Error")]:
        s = w.wait_exit(w.container(pod, config, f"c{code}", ["/bin/sh", "-c", script]))
        check_equal((s.exit_code, s.reason), (code, reason), script)
        check(s.created_at <= s.started_at <= s.finished_at, "order of times")
    eater = w.cri.container_config("eater", w.image, ["/bin/sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1"])
    eater.linux.resources.memory_limit_in_bytes = 20 << 20
    eater.linux.resources.memory_swap_limit_in_bytes = 20 << 20
    container = w.client.CreateContainer(pod_sandbox_id=pod, config=eater, sandbox_config=config).container_id
    w.client.StartContainer(container_id=container)
    s = w.wait_exit(container)
    check_equal((s.exit_code, s.reason), (137, "OOMKilled"), "out of memory")
    missing = w.cri.container_config("missing", w.image, ["/no/such/program"])
    container = w.client.CreateContainer(pod_sandbox_id=pod, config=missing, sandbox_config=config).container_id
    try:
        w.client.StartContainer(container_id=container)
        raise AssertionError("a missing program starts")
    except Exception as error:
        check("/no/such/program" in str(error), f"the error names the program: {error}")
    s = w.status(container)
    check_equal((s.state, s.exit_code), (w.pb.CONTAINER_EXITED, 128), "status after a failed start")

    def mounted():
        with open(f"/proc/{w.daemon.process.pid}/mountinfo") as f:
            return [line for line in f if line.split()[4].startswith(w.daemon.dir) and line.split()[4].endswith("/rootfs")]
    check_equal(len(w.client.ListContainers().containers), 5, "containers that have ended, and are there")
    eventually(lambda: not mounted(), "no root file system of an ended container is mounted")
    w.finish()


def test_log_partial_lines_and_rotation(node):
    w = World(node)
    pod, config = w.pod()
    w.wait_exit(w.container(pod, config, "long", ["/bin/sh", "-c", "head -c 40000 /dev/zero | tr '\\0' x; echo; echo end"]))
    lines = open(f"{config.log_directory}/long.log").read().splitlines()
    check_equal([line.split(" ")[2] for line in lines], ["P", "P", "F", "F"], "tags")
    check_equal(sum(len(line.split(" ", 3)[3]) for line in lines[:3]), 40000, "bytes of the long line")
    writer = w.container(pod, config, "writer", ["/bin/sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i; done"])
    log, rotated = f"{config.log_directory}/writer.log", []
    while w.status(writer).state == w.pb.CONTAINER_RUNNING:
        rotated.append(f"{log}.{len(rotated)}")
        os.rename(log, rotated[-1])
        try:
            w.client.ReopenContainerLog(container_id=writer)
        except Exception as error:  # it ended between our question and this: a kubelet takes its rotation back then
            check_equal(error.code().name, "FAILED_PRECONDITION", "reopening an ended container's log")
            os.rename(rotated.pop(), log)
    w.wait_exit(writer)
    numbers = [line.split(" ", 3)[3] for name in [*rotated, log] for line in open(name).read().splitlines()]
    check_equal(numbers, [str(i) for i in range(1, 20001)], f"lines over {len(rotated)} rotations")
    w.finish()


def test_exec_timeout_kills_the_whole_tree(node):
    w = World(node)
    for handler in ("native", "runc", "crun"):
        pod = w.client.RunPodSandbox(config=w.daemon.pod_config(f"explicit-{handler}"), runtime_handler=handler).pod_sandbox_id
        container = w.container(pod, w.daemon.pod_config(f"explicit-{handler}"))
        check_error(lambda: exec_with_timeout(w, container, "setsid sleep 777 & sleep 777", 1), "DEADLINE_EXCEEDED",
                    "setsid sleep 777 & sleep 777")
        left = w.sh(container, "ps | grep 'sleep 777' | grep -v grep; true").stdout
        check_equal(left, b"", "processes of the exec")
        check_equal(w.status(container).state, w.pb.CONTAINER_RUNNING, "the container itself")
    w.finish()


def test_what_a_container_leaves_behind_ends_with_it(node):
    w = World(node)
    for handler in ("native", "runc", "crun"):
        config = w.daemon.pod_config(f"shared-{handler}")  # one process namespace for all containers
        pod = w.client.RunPodSandbox(config=config, runtime_handler=handler).pod_sandbox_id
        other = w.container(pod, config, "other")
        leaving = w.container(pod, config, "leaving", ["/bin/sh", "-c", "setsid sleep 778 & until ps | grep -q '[s]leep 778'; do :; done; exit 3"])
        check_equal(w.wait_exit(leaving).exit_code, 3, f"exit code with {handler}")
        eventually(lambda: w.sh(other, "ps | grep '[s]leep 778'; true").stdout == b"", f"nothing of it is left with {handler}")
        check_equal(w.status(other).state, w.pb.CONTAINER_RUNNING, "the pod's other container")
    w.finish()


def exec_with_timeout(w, container, script, seconds):
    request = w.pb.ExecSyncRequest(container_id=container, cmd=["/bin/sh", "-c", script], timeout=seconds)
    call = w.client.channel.unary_unary("/runtime.v1.RuntimeService/ExecSync",
                                        request_serializer=w.pb.ExecSyncRequest.SerializeToString,
                                        response_deserializer=w.pb.ExecSyncResponse.FromString)
    return call(request, timeout=60)


def test_exec_in_a_frozen_container_waits_alone(node):
    """What runs the pod's processes must not be held up by one that cannot go on."""
    w = World(node, "native")
    pod, config = w.pod()
    frozen, other = (w.container(pod, config, name) for name in ("frozen", "other"))
    pid = json.loads(w.client.ContainerStatus(container_id=frozen, verbose=True).info["info"])["pid"]
    freeze = freezer_file(pid)

    def set_frozen(on):
        with open(freeze, "w") as f:
            f.write({"freezer.state": ["THAWED", "FROZEN"], "cgroup.freeze": ["0", "1"]}[os.path.basename(freeze)][on])
    set_frozen(True)
    try:
        waiting = w.client.ExecSync.start(container_id=frozen, cmd=["/bin/echo", "late"])
        for _ in range(3):
            check_equal(w.sh(other, "echo soon").stdout, b"soon\n", "exec beside")
        check(not waiting.done(), "an exec ran in a frozen container")
        check_error(lambda: w.client.ExecSync(container_id=frozen, cmd=["/bin/true"], timeout=1), "DEADLINE_EXCEEDED")
        check_equal(w.sh(other, "echo soon").stdout, b"soon\n", "exec beside, after that")
    finally:
        set_frozen(False)
    check_equal(waiting.result().stdout, b"late\n", "when it goes on")
    w.finish()


def freezer_file(pid):
    """By which the cgroup of a process is frozen."""
    paths = {controllers: path for _, controllers, path in (line.strip().split(":", 2) for line in open(f"/proc/{pid}/cgroup"))}
    for line in open("/proc/self/mountinfo"):
        left, right = line.split(" - ")
        where, (kind, _, options) = left.split()[4], right.split()[:3]
        if kind == "cgroup" and "freezer" in options.split(",") and "freezer" in paths:
            return f"{where}{paths['freezer']}/freezer.state"
        if kind == "cgroup2" and "freezer" not in paths:
            return f"{where}{paths['']}/cgroup.freeze"
    raise Skip("no freezer")


def test_exec_output_is_capped(node):
    w = World(node)
    pod, config = w.pod()
    container = w.container(pod, config)
    reply = w.sh(container, "head -c 40000000 /dev/zero")
    check(len(reply.stdout) <= 16 << 20, f"{len(reply.stdout)} bytes")
    check_equal(reply.exit_code, 0, "exit code")
    w.finish()


def test_pods_reach_each_other_and_host_ports(node):
    w = World(node)
    config = w.daemon.pod_config("server", port_mappings=[w.pb.PortMapping(container_port=8080, host_port=18080)])
    server = w.client.RunPodSandbox(config=config).pod_sandbox_id
    ip = w.client.PodSandboxStatus(pod_sandbox_id=server).status.network.ip
    w.container(server, config, "web", ["/bin/sh", "-c", "mkdir /w; echo served > /w/index.html; httpd -f -p 8080 -h /w"])
    pod, other = w.pod("client")
    container = w.container(pod, other)
    eventually(lambda: w.sh(container, f"wget -q -O - http://{ip}:8080/").stdout == b"served\n", "the other pod answers")
    for address in (ip + ":8080", "127.0.0.1:18080"):
        check_equal(fetch(address), b"served\n", f"answer from {address}")
    w.finish()


def test_sysctls_of_every_pods_network(node):
    w = World(node)
    for more, want in (({}, b"0 0\t2147483647"), ({"net.ipv4.ip_unprivileged_port_start": "1024"}, b"1024 0\t2147483647")):
        config = w.daemon.pod_config(f"pod{len(more)}")
        config.linux.sysctls.update(more)
        container = w.container(w.client.RunPodSandbox(config=config).pod_sandbox_id, config)
        shown = w.sh(container, 'cd /proc/sys/net/ipv4; echo "$(cat ip_unprivileged_port_start) $(cat ping_group_range)"').stdout
        check_equal(shown, want + b"\n", f"sysctls with {more}")
    w.finish()


def test_debian_cni_plugins(node):
    if not os.path.exists("/usr/lib/cni/bridge"):
        raise Skip("containernetworking-plugins is not installed")
    for builtin in ("false", "true"):
        name = f"crisp-{builtin}"
        os.makedirs(f"{node.dir}/{name}/cni")
        node.links_allowed.add(f"cni{builtin}0")
        with open(f"{node.dir}/{name}/cni/10-test.conflist", "w") as f:
            json.dump({"cniVersion": "1.0.0", "name": f"net-{builtin}", "plugins": [
                {"type": "bridge", "bridge": f"cni{builtin}0", "isGateway": True, "ipMasq": True, "hairpinMode": True,
                 "ipam": {"type": "host-local", "dataDir": f"{node.dir}/{name}/networks",
                          "ranges": [[{"subnet": "10.99.0.0/24" if builtin == "true" else "10.98.0.0/24"}]],
                          "routes": [{"dst": "0.0.0.0/0"}]}},
                {"type": "portmap", "capabilities": {"portMappings": True}}]}, f)
        w = World(node, name=name, settings={"cni.builtin_plugins": builtin, "cni.bin_dirs": '["/usr/lib/cni"]'})
        check_equal([c.status for c in w.client.Status().status.conditions], [True, True], "conditions")
        config = w.daemon.pod_config("server", port_mappings=[w.pb.PortMapping(container_port=8080, host_port=18080)])
        pod = w.client.RunPodSandbox(config=config).pod_sandbox_id
        status = w.client.PodSandboxStatus(pod_sandbox_id=pod).status
        check(status.network.ip.startswith("10.99." if builtin == "true" else "10.98."), status.network.ip)
        w.container(pod, config, "web", ["/bin/sh", "-c", "mkdir /w; echo served > /w/index.html; httpd -f -p 8080 -h /w"])
        eventually(lambda: fetch(f"{status.network.ip}:8080") == b"served\n", "the pod answers")
        w.finish()


def test_retries_join_and_metadata_is_unique(node):
    w = World(node)
    config = w.daemon.pod_config("same")
    futures = [w.client.RunPodSandbox.start(config=config) for _ in range(20)]
    ids = {f.result().pod_sandbox_id for f in futures}
    check_equal(len(ids), 1, "sandboxes made by 20 equal calls at once")
    different = w.daemon.pod_config("same", labels={"x": "y"})
    check_error(lambda: w.client.RunPodSandbox(config=different), "ALREADY_EXISTS", "same")
    check_equal(len(w.client.ListPodSandbox().items), 1, "sandboxes")
    pod = ids.pop()
    c = w.cri.container_config("main", w.image, ["/bin/sleep", "10"])
    futures = [w.client.CreateContainer.start(pod_sandbox_id=pod, config=c, sandbox_config=config) for _ in range(20)]
    check_equal(len({f.result().container_id for f in futures}), 1, "containers made by 20 equal calls at once")
    w.finish()


def test_lists_and_filters(node):
    w = World(node)
    pods = [w.pod(f"p{i}", labels={"n": str(i % 2)}) for i in range(4)]
    containers = [w.container(pod, config, labels={"n": str(i % 2)}) for i, (pod, config) in enumerate(pods)]
    w.client.StopPodSandbox(pod_sandbox_id=pods[0][0])
    pb = w.pb
    def pods_with(**f):
        return {p.id for p in w.client.ListPodSandbox(filter=pb.PodSandboxFilter(**f)).items}
    def containers_with(**f):
        return {c.id for c in w.client.ListContainers(filter=pb.ContainerFilter(**f)).containers}
    ids = [pod for pod, _ in pods]
    check_equal(pods_with(label_selector={"n": "1"}), {ids[1], ids[3]}, "by label")
    check_equal(pods_with(id=ids[2]), {ids[2]}, "by id")
    check_equal(pods_with(state=pb.PodSandboxStateValue(state=pb.SANDBOX_READY)), set(ids[1:]), "by state")
    check_equal(pods_with(id="f" * 64), set(), "by unknown id")
    check_equal(containers_with(pod_sandbox_id=ids[1]), {containers[1]}, "by pod")
    check_equal(containers_with(state=pb.ContainerStateValue(state=pb.CONTAINER_EXITED)), {containers[0]}, "by state")
    check_equal(containers_with(label_selector={"n": "0"}), {containers[0], containers[2]}, "by label")
    w.finish()


def test_restart_keeps_everything(node):
    w = World(node)
    pod, config = w.pod()
    container = w.container(pod, config, command=["/bin/sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.1; done"])
    before = w.status(container)
    for how in (w.daemon.stop, w.daemon.kill):
        how()
        w.daemon.start()
        w.client = w.daemon.client()  # the old one finds out by an error only
        check_equal(w.status(container).SerializeToString(deterministic=True), before.SerializeToString(deterministic=True),
                    f"status after {how.__name__}")
    w.client.StopContainer(container_id=container, timeout=10)
    check_equal(w.status(container).exit_code, 5, "exit code")
    check_equal(len(w.client.ListImages().images), 1, "images")
    w.finish()


def processes_of(w, container):
    """{(pid, name)} in its cgroups."""
    found = set()
    for mount in harness.cgroup_mounts():
        with contextlib.suppress(FileNotFoundError), open(f"{mount}{w.daemon.cgroup_parent}/{container}/cgroup.procs") as f:
            for pid in f.read().split():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/comm") as comm:
                    found.add((int(pid), comm.read().strip()))
    return found


def test_a_created_container_waits_for_its_start(node):
    """Its process is there already, where it has a PID namespace of its own; and goes with whatever else is done."""
    w = World(node)
    pod, config = w.pod()
    own = w.pb.LinuxContainerConfig()
    own.security_context.namespace_options.pid = w.pb.CONTAINER

    def create(name, **more):
        return w.container(pod, config, name, ["/bin/sh", "-c", "echo ran; exec sleep 1000"], start=False, linux=own, **more)

    def waits(container):
        found = eventually(lambda: processes_of(w, container), "its process is in its cgroup")
        check_equal([name for _, name in found], ["crisp-launch"], "what waits")
        return found.pop()[0]

    started, updated, removed, left = create("started"), create("updated"), create("removed"), create("left")
    pids = [waits(container) for container in (started, updated, removed, left)]
    check_equal({w.status(c).state for c in (started, left)}, {w.pb.CONTAINER_CREATED}, "they are not started")
    check(not any(s.HasField("memory") for s in w.client.ListContainerStats().stats), "nor do they use memory")
    check(not os.path.exists(f"{config.log_directory}/started.log"), "nor say anything")
    w.client.StartContainer(container_id=started)
    check_equal(w.sh(started, "cat /proc/1/comm").stdout, b"sleep\n", "the program")
    check_equal({pid for pid, _ in processes_of(w, started)}, {pids[0]}, "the process that has waited")
    check("ran" in open(f"{config.log_directory}/started.log").read(), "its output")
    w.client.UpdateContainerResources(container_id=updated, linux=w.pb.LinuxContainerResources(memory_limit_in_bytes=64 << 20))
    eventually(lambda: not os.path.exists(f"/proc/{pids[1]}"), "one with other limits is ended")
    w.client.StartContainer(container_id=updated)
    w.client.RemoveContainer(container_id=removed)
    check(not os.path.exists(f"/proc/{pids[2]}"), "a removed one is gone")
    # Nobody else may start it now: another crispd makes it anew.
    w.daemon.kill()
    eventually(lambda: not os.path.exists(f"/proc/{pids[3]}"), "it goes with its crispd")
    w.daemon.start()
    w.client = w.daemon.client()
    w.client.StartContainer(container_id=left)
    check_equal({w.status(c).state for c in (started, updated, left)}, {w.pb.CONTAINER_RUNNING}, "all run")
    waiting = waits(create("last"))
    w.client.StopPodSandbox(pod_sandbox_id=pod)
    check(not os.path.exists(f"/proc/{waiting}"), "it goes with its pod")
    w.finish()


def test_a_hung_shim_keeps_no_created_container(node):
    w = World(node)
    pod, config = w.pod()
    own = w.pb.LinuxContainerConfig()
    own.security_context.namespace_options.pid = w.pb.CONTAINER
    created = w.container(pod, config, "created", start=False, linux=own)
    waiting = eventually(lambda: processes_of(w, created), "its process waits in its cgroup").pop()[0]
    shim = harness.parent_of(waiting)
    check_equal(open(f"/proc/{shim}/comm").read().strip(), "crisp-shim", "the process's parent")
    os.kill(shim, signal.SIGSTOP)
    w.client.RemoveContainer(container_id=created)
    check_equal(processes_of(w, created), set(), "processes in its cgroups")
    check_error(lambda: w.status(created), "NOT_FOUND")
    w.client.RemovePodSandbox(pod_sandbox_id=pod)
    eventually(lambda: not os.path.exists(f"/proc/{shim}"), "the shim is gone")
    w.finish()


def test_two_instances_side_by_side(node):
    one = World(node)
    two = World(node, name="other", bridge="crisptest1", subnet="10.89.0.0/16")
    for w in (one, two):
        pod, config = w.pod("same-name")
        w.container(pod, config)
        check_equal(len(w.client.ListPodSandbox().items), 1, "pods of this instance")
    one.daemon.remove_all(one.client)
    check_equal(len(two.client.ListContainers(filter=two.pb.ContainerFilter(
        state=two.pb.ContainerStateValue(state=two.pb.CONTAINER_RUNNING))).containers), 1, "the other's container runs on")
    two.daemon.remove_all(two.client)
    one.daemon.check_clean()
    two.daemon.check_clean()


if __name__ == "__main__":  # its World is used elsewhere, too
    harness.main()

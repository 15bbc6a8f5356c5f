#!/usr/bin/python3
"""The cgroup driver systemd on a machine where systemd is PID 1 and has a pure cgroup v2: containers are scopes below the
slice that the caller names. What systemd says of them, and what the kernel does.

    tests/vm_test.py systemd      # in a virtual machine, under a systemd of its own (tests/under-systemd)
"""
import harness
import json
import os
import subprocess

from harness import Skip, check, check_equal, check_error, eventually
from world import World

MB = 1 << 20
os.environ["CRISP_TEST_CGROUP_DRIVER"] = "systemd"  # so that pods name slices


def systemd_world(node, handler):
    with open("/proc/1/comm") as f:
        init = f.read().strip()
    if init != "systemd" or not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        raise Skip("PID 1 is no systemd with a pure cgroup v2")
    return World(node, handler)


def unit(name, *properties):
    """{property: value} as systemd sees it."""
    out = harness.run("systemctl", "show", name, *[f"--property={p}" for p in properties])
    return dict(line.split("=", 1) for line in out.splitlines())


def our_units(pattern="crisp-*"):
    out = subprocess.run(["systemctl", "list-units", "--all", "--plain", "--no-legend", "--no-pager", pattern],
                         capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in out.splitlines()]


def info_of(w, container):
    return json.loads(w.client.ContainerStatus(container_id=container, verbose=True).info["info"])


def where(w, container):
    """The cgroup that the container's process is in."""
    with open(f"/proc/{info_of(w, container)['pid']}/cgroup") as f:
        return f.read().strip().removeprefix("0::")


def value(cgroup, name):
    with open(f"/sys/fs/cgroup{cgroup}/{name}") as f:
        return f.read().strip()


def life(node, handler):
    w = systemd_world(node, handler)
    check_equal(w.client.RuntimeConfig().linux.cgroup_driver, w.pb.SYSTEMD, "driver that the kubelet is told")
    slice_name = f"kubepods-burstable-pod{node.id}.slice"
    slice_path = f"/kubepods.slice/kubepods-burstable.slice/{slice_name}"
    pod, config = w.pod(cgroup_parent=slice_name)
    c = w.cri.container_config("main", w.image, ["/bin/sleep", "1000"])
    c.linux.resources.MergeFrom(w.pb.LinuxContainerResources(memory_limit_in_bytes=64 * MB, cpu_quota=50000, cpu_period=100000))
    container = w.client.CreateContainer(pod_sandbox_id=pod, config=c, sandbox_config=config).container_id
    check_equal(our_units(), [], "units before the start")
    w.client.StartContainer(container_id=container)
    scope = f"crisp-{container}.scope"
    seen = unit(scope, "Slice", "ActiveState", "Delegate", "TasksMax", "Transient")
    check_equal(seen, {"Slice": slice_name, "ActiveState": "active", "Delegate": "yes", "TasksMax": "infinity", "Transient": "yes"},
                "the scope")
    cgroup = where(w, container)
    check_equal(info_of(w, container)["cgroupPath"], f"{slice_path}/{scope}", "where crispd looks")
    check(cgroup in (f"{slice_path}/{scope}", f"{slice_path}/{scope}/container"), f"the process is in {cgroup}")
    check_equal(value(f"{slice_path}/{scope}", "pids.max"), "max", "limit of tasks")

    def limits():
        return value(cgroup, "memory.max"), value(cgroup, "cpu.max")
    check_equal(limits(), (str(64 * MB), "50000 100000"), "limits")
    # An exec has a cgroup of its own, below; a reload makes systemd write what it thinks the limits are.
    check(w.sh(container, "cat /proc/self/cgroup").stdout.startswith(b"0::/crisp-exec-"), "the exec's cgroup")
    harness.run("systemctl", "daemon-reload")
    check_equal(limits(), (str(64 * MB), "50000 100000"), "limits after a reload")
    w.client.UpdateContainerResources(container_id=container, linux=w.pb.LinuxContainerResources(
        memory_limit_in_bytes=96 * MB, cpu_quota=20000))
    check_equal(limits(), (str(96 * MB), "20000 100000"), "limits after an update")
    harness.run("systemctl", "daemon-reload")
    check_equal(limits(), (str(96 * MB), "20000 100000"), "limits after an update and a reload")
    stats = w.client.ContainerStats(container_id=container).stats
    check(stats.memory.usage_bytes.value > 0 and stats.cpu.usage_core_nano_seconds.value > 0, f"stats: {stats}")
    w.daemon.kill()
    w.daemon.start()
    w.client = w.daemon.client()
    check_equal(w.status(container).state, w.pb.CONTAINER_RUNNING, "state after a restart of crispd")
    check(w.client.ContainerStats(container_id=container).stats.memory.usage_bytes.value > 0, "stats after a restart")
    w.client.StopContainer(container_id=container, timeout=0)
    eventually(lambda: our_units() == [], "no unit of a stopped container")
    check(not os.path.exists(f"/sys/fs/cgroup{slice_path}/{scope}"), "the scope's cgroup is left")
    w.client.StopPodSandbox(pod_sandbox_id=pod)
    w.client.RemovePodSandbox(pod_sandbox_id=pod)
    check_equal(unit(slice_name, "ActiveState"), {"ActiveState": "active"}, "the slice is its caller's")
    harness.run("systemctl", "stop", "kubepods.slice")
    w.finish()


def test_life_with_runc(node):
    life(node, "runc")


def test_life_with_crun(node):
    life(node, "crun")


def test_life_with_native(node):
    life(node, "native")


def out_of_memory(node, handler):
    """systemd is quick to remove a scope that is empty: the reason is known all the same."""
    w = systemd_world(node, handler)
    pod, config = w.pod()
    for attempt in range(3):
        c = w.cri.container_config("eater", w.image, ["/bin/sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1"], attempt=attempt)
        c.linux.resources.memory_limit_in_bytes = c.linux.resources.memory_swap_limit_in_bytes = 20 * MB
        container = w.client.CreateContainer(pod_sandbox_id=pod, config=c, sandbox_config=config).container_id
        w.client.StartContainer(container_id=container)
        s = w.wait_exit(container)
        check_equal((s.exit_code, s.reason), (137, "OOMKilled"), f"out of memory, {attempt}")
    # Who is merely killed was not out of memory.
    container = w.container(pod, config, "killed")
    w.client.StopContainer(container_id=container, timeout=0)
    check_equal(w.status(container).reason, "Error", "killed")
    w.finish()


def test_out_of_memory_with_runc(node):
    out_of_memory(node, "runc")


def test_out_of_memory_with_crun(node):
    out_of_memory(node, "crun")


def test_out_of_memory_with_native(node):
    out_of_memory(node, "native")


def test_limits_of_tasks(node):
    w = systemd_world(node, "runc")
    for handler in ("native", "runc", "crun"):
        config = w.daemon.pod_config(handler)
        pod = w.client.RunPodSandbox(config=config, runtime_handler=handler).pod_sandbox_id
        c = w.cri.container_config("main", w.image, ["/bin/sleep", "1000"])
        c.linux.resources.unified["pids.max"] = "77"
        container = w.client.CreateContainer(pod_sandbox_id=pod, config=c, sandbox_config=config).container_id
        w.client.StartContainer(container_id=container)
        check_equal(value(where(w, container), "pids.max"), "77", f"limit of tasks by {handler}")
        check_equal(unit(f"crisp-{container}.scope", "TasksMax"), {"TasksMax": "77"}, f"the scope of {handler}")
    w.finish()


def own_slice(pod):
    return f"/crisp.slice/crisp-{pod}.slice"


def pods_own(node, handler):
    """Who names no parent gets a slice of crisp's own for the pod, with the pod's limits."""
    w = systemd_world(node, handler)
    resources = w.pb.LinuxContainerResources
    config = w.daemon.pod_config("own", cgroup_parent="")
    config.linux.resources.MergeFrom(resources(memory_limit_in_bytes=64 * MB, cpu_quota=50000, cpu_period=100000, cpu_shares=512))
    config.linux.overhead.MergeFrom(resources(memory_limit_in_bytes=MB))
    pod = w.client.RunPodSandbox(config=config).pod_sandbox_id
    container = w.container(pod, config)
    slice_path, name = own_slice(pod), f"crisp-{pod}.slice"
    check(where(w, container).startswith(f"{slice_path}/crisp-{container}.scope"), where(w, container))
    check_equal(unit(name, "ActiveState", "Transient", "MemoryMax"),
                {"ActiveState": "active", "Transient": "yes", "MemoryMax": str(65 * MB)}, "the slice")

    def limits():
        return value(slice_path, "memory.max"), value(slice_path, "cpu.max"), value(slice_path, "pids.max")
    check_equal(limits(), (str(65 * MB), "50000 100000", "max"), "limits")
    harness.run("systemctl", "daemon-reload")
    check_equal(limits(), (str(65 * MB), "50000 100000", "max"), "limits after a reload")
    w.daemon.kill()
    w.daemon.start()
    w.client = w.daemon.client()
    w.client.UpdatePodSandboxResources(pod_sandbox_id=pod, resources=resources(memory_limit_in_bytes=32 * MB, cpu_quota=20000))
    check_equal(limits(), (str(33 * MB), "20000 100000", "max"), "limits after an update")
    harness.run("systemctl", "daemon-reload")
    check_equal(limits(), (str(33 * MB), "20000 100000", "max"), "limits after an update and a reload")
    stats = w.client.PodSandboxStats(pod_sandbox_id=pod).stats
    check(stats.linux.memory.usage_bytes.value > 0, f"stats: {stats}")
    # Out of the pod's memory, not of the container's.
    eater = w.container(pod, config, "eater", ["/bin/sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1"])
    check(w.wait_exit(eater).exit_code != 0, "a container had more memory than its pod")
    w.client.StopPodSandbox(pod_sandbox_id=pod)
    w.client.RemovePodSandbox(pod_sandbox_id=pod)
    check_equal(our_units(), [], "units of a removed pod")
    check(not os.path.exists(f"/sys/fs/cgroup{slice_path}"), "the slice's cgroup is left")
    w.finish()


def test_pods_own_with_runc(node):
    pods_own(node, "runc")


def test_pods_own_with_crun(node):
    pods_own(node, "crun")


def test_pods_own_with_native(node):
    pods_own(node, "native")


def test_pods_own_after_a_crash(node):
    """A slice that was made for a pod that never came to be goes at the next start."""
    w = systemd_world(node, "native")
    for failpoint in ("run_sandbox.after_cgroup", "run_sandbox.after_ready", "discard_pod.after_cgroup"):
        w.daemon.stop()
        w.daemon.environment = {"CRISP_FAILPOINTS": f"{failpoint}=kill"}
        w.daemon.start()
        w.client = w.daemon.client()
        config = w.daemon.pod_config("crashed", cgroup_parent="")
        check_error(lambda: w.client.RemovePodSandbox(pod_sandbox_id=w.client.RunPodSandbox(config=config).pod_sandbox_id),
                    "UNAVAILABLE")
        w.daemon.process.wait()
        check_equal(our_units() == [], failpoint == "discard_pod.after_cgroup", f"no units at {failpoint}")
        w.daemon.environment = {}
        w.daemon.start()
        w.client = w.daemon.client()
        w.daemon.remove_all(w.client)
        check_equal(our_units(), [], f"units after {failpoint}")
    w.finish()


def parents(node, handler):
    w = systemd_world(node, handler)
    for parent in ("/kubepods/burstable", "kubepods", "a--b.slice"):
        check_error(lambda: w.pod("refused", cgroup_parent=parent), "INVALID_ARGUMENT", "slice")
    # A kubelet gives the name, others the path that it stands for.
    for number, (parent, below) in enumerate([(f"/a{node.id}.slice/a{node.id}-b.slice", f"/a{node.id}.slice/a{node.id}-b.slice"),
                                              ("", None)]):
        pod, config = w.pod(f"pod{number}", cgroup_parent=parent)
        below = below or own_slice(pod)
        container = w.container(pod, config)
        check_equal(info_of(w, container)["cgroupPath"], f"{below}/crisp-{container}.scope", f"parent {parent!r}")
        check(where(w, container).startswith(f"{below}/crisp-{container}.scope"), where(w, container))
    w.finish()
    eventually(lambda: our_units() == [], "no unit is left")
    harness.run("systemctl", "stop", f"a{node.id}.slice")


def test_parents_with_crun(node):
    parents(node, "crun")


def test_parents_with_native(node):
    parents(node, "native")


if __name__ == "__main__":
    harness.main()

"""Limits of containers and pods, at their start and changed while they run, on whichever cgroup version this machine has."""
import harness
import json
import os

from harness import Skip, check, check_equal, check_error

from world import World

MB = 1 << 20


def controller_dir(controller, path):
    """Where `path` is in the hierarchy that `controller` is bound to; (directory, is it v2)."""
    for line in open("/proc/self/mountinfo"):
        left, right = line.split(" - ")
        where, (kind, _, options) = left.split()[4], right.split()[:3]
        if kind == "cgroup" and controller in options.split(","):
            return where + path, False
        if kind == "cgroup2" and controller in open(f"{where}/cgroup.controllers").read().split():
            return where + path, True
    raise Skip(f"no cgroup controller {controller}")


def read(directory, name):
    with open(f"{directory}/{name}") as f:
        return f.read().strip()


class Limits:
    """What the kernel says about one cgroup, in the words of v1."""

    def __init__(self, path):
        self.path = path

    @property
    def memory(self):
        directory, v2 = controller_dir("memory", self.path)
        return int(read(directory, "memory.max" if v2 else "memory.limit_in_bytes"))

    @property
    def swap(self):
        """Of memory and swap together; None where swap is not accounted."""
        directory, v2 = controller_dir("memory", self.path)
        name = "memory.swap.max" if v2 else "memory.memsw.limit_in_bytes"
        if not os.path.exists(f"{directory}/{name}"):
            return None
        value = read(directory, name)
        if value == "max" or int(value) > 1 << 62:
            return -1
        return int(value) + (self.memory if v2 else 0)

    @property
    def quota(self):
        directory, v2 = controller_dir("cpu", self.path)
        if v2:
            quota, period = read(directory, "cpu.max").split()
            return (-1 if quota == "max" else int(quota), int(period))
        return int(read(directory, "cpu.cfs_quota_us")), int(read(directory, "cpu.cfs_period_us"))

    @property
    def shares(self):
        directory, v2 = controller_dir("cpu", self.path)
        return int(read(directory, "cpu.weight" if v2 else "cpu.shares"))

    @property
    def cpus(self):
        directory, _ = controller_dir("cpuset", self.path)
        return read(directory, "cpuset.cpus")

    def hugepages(self, size):
        directory, v2 = controller_dir("hugetlb", self.path)
        return int(read(directory, f"hugetlb.{size}.{'max' if v2 else 'limit_in_bytes'}"))


def is_v2():
    return len(harness.cgroup_mounts()) == 1 and os.path.exists(harness.cgroup_mounts()[0] + "/cgroup.controllers")


def limited(w, pod, config, name="main", **resources):
    c = w.cri.container_config(name, w.image, ["/bin/sleep", "1000"])
    c.linux.resources.MergeFrom(w.pb.LinuxContainerResources(**resources))
    return w.client.CreateContainer(pod_sandbox_id=pod, config=c, sandbox_config=config).container_id


def limits_of(w, container):
    """Of the cgroup that its process is in: crun under systemd makes one below the scope's, which systemd does not write."""
    info = json.loads(w.client.ContainerStatus(container_id=container, verbose=True).info["info"])
    path = info["cgroupPath"]
    if is_v2():
        inside = read(f"/proc/{info['pid']}", "cgroup").removeprefix("0::")
        check(inside in (path, f"{path}/container"), f"{inside}: not where crispd says, {path}")
        path = inside
    return Limits(path)


def update(w, container, **resources):
    w.client.UpdateContainerResources(container_id=container, linux=w.pb.LinuxContainerResources(**resources))


def updates(node, handler):
    w = World(node, handler)
    pod, config = w.pod()
    container = limited(w, pod, config, memory_limit_in_bytes=64 * MB, memory_swap_limit_in_bytes=64 * MB,
                        cpu_period=100000, cpu_quota=50000, cpu_shares=512)
    # Before its start: another config.json.
    update(w, container, memory_limit_in_bytes=80 * MB)
    w.client.StartContainer(container_id=container)
    limits = limits_of(w, container)
    has_swap = limits.swap is not None
    check_equal((limits.memory, limits.quota), (80 * MB, (50000, 100000)), "limits at the start")
    if has_swap:
        check_equal(limits.swap, 80 * MB, "no swap without a wish for it")
    # Growing and shrinking, memory and swap together and alone.
    for memory, swap in [(128, 256), (32, 48), (96, 96), (64, -1)]:
        total = swap * MB if swap > 0 else swap
        update(w, container, memory_limit_in_bytes=memory * MB, memory_swap_limit_in_bytes=total)
        check_equal(limits.memory, memory * MB, f"memory after {memory}/{swap}")
        if has_swap:
            check_equal(limits.swap, total, f"swap after {memory}/{swap}")
    if has_swap:
        update(w, container, memory_swap_limit_in_bytes=100 * MB)
        check_equal((limits.memory, limits.swap), (64 * MB, 100 * MB), "swap alone")
    update(w, container, memory_limit_in_bytes=70 * MB)
    check_equal(limits.memory, 70 * MB, "memory alone")
    if has_swap:
        check_equal(limits.swap, 70 * MB, "no swap after a new memory limit")
    # One of a pair leaves the other.
    update(w, container, cpu_quota=20000)
    check_equal(limits.quota, (20000, 100000), "quota alone")
    update(w, container, cpu_period=50000)
    check_equal(limits.quota, (20000, 50000), "period alone")
    update(w, container, cpu_quota=-1)
    check_equal(limits.quota[0], -1, "no quota")
    # Without a quota from the beginning, and without one again before the start.
    free = limited(w, pod, config, "free", cpu_quota=-1, cpu_period=100000)
    freed = limited(w, pod, config, "freed", cpu_quota=50000, cpu_period=100000)
    update(w, freed, cpu_quota=-1)
    for each in (free, freed):
        w.client.StartContainer(container_id=each)
        check_equal(limits_of(w, each).quota[0], -1, "no quota at the start")
    update(w, container, cpu_shares=1024, cpuset_cpus="0")
    check_equal(limits.quota[0], -1, "still no quota")
    check_equal(limits.shares, 39 if is_v2() else 1024, "shares")
    check_equal(limits.cpus, "0", "cpus")
    seen = w.status(container).resources.linux
    check_equal((seen.memory_limit_in_bytes, seen.cpu_quota, seen.cpu_period, seen.cpu_shares, seen.cpuset_cpus),
                (70 * MB, -1, 50000, 1024, "0"), "status")
    # What cannot be is refused and changes nothing.
    for bad in [dict(memory_limit_in_bytes=MB, memory_swap_limit_in_bytes=MB - 1), dict(memory_swap_limit_in_bytes=MB),
                dict(cpu_shares=-1), dict(cpuset_cpus="a"), dict(memory_limit_in_bytes=-2)]:
        check_error(lambda: update(w, container, **bad), "INVALID_ARGUMENT")
    check_error(lambda: w.client.UpdateContainerResources(container_id=container), "INVALID_ARGUMENT", "linux")
    check_equal(limits.memory, 70 * MB, "memory after refusals")
    w.daemon.kill()
    w.daemon.start()
    w.client = w.daemon.client()
    check_equal(w.status(container).resources.linux, seen, "status after a restart")
    update(w, container, cpu_period=40000, cpu_quota=10000)
    check_equal(limits.quota, (10000, 40000), "an update after a restart")
    w.client.StopContainer(container_id=container, timeout=0)
    check_error(lambda: update(w, container, cpu_shares=5), "FAILED_PRECONDITION")
    w.finish()


def test_updates_with_runc(node):
    updates(node, "runc")


def test_updates_with_crun(node):
    updates(node, "crun")


def test_updates_with_native(node):
    updates(node, "native")


def hugepages(node, handler):
    if controller_dir("hugetlb", "") and not os.path.isdir("/sys/kernel/mm/hugepages/hugepages-2048kB"):
        raise Skip("no huge pages of 2 MB")
    w = World(node, handler)
    pod, config = w.pod()
    container = limited(w, pod, config, hugepage_limits=[w.pb.HugepageLimit(page_size="2MB", limit=4 * MB),
                                                         w.pb.HugepageLimit(page_size="64KB", limit=0)])
    w.client.StartContainer(container_id=container)
    limits = limits_of(w, container)
    check_equal(limits.hugepages("2MB"), 4 * MB, "at the start")
    update(w, container, hugepage_limits=[w.pb.HugepageLimit(page_size="2MB", limit=8 * MB)])
    check_equal(limits.hugepages("2MB"), 8 * MB, "after an update")
    check_equal([(h.page_size, h.limit) for h in w.status(container).resources.linux.hugepage_limits if h.limit],
                [("2MB", 8 * MB)], "status")
    check_error(lambda: update(w, container, hugepage_limits=[w.pb.HugepageLimit(page_size="3MB", limit=MB)]),
                "FAILED_PRECONDITION", "3MB")
    w.finish()


def test_hugepages_with_runc(node):
    hugepages(node, "runc")


def test_hugepages_with_crun(node):
    hugepages(node, "crun")


def test_hugepages_with_native(node):
    hugepages(node, "native")


def unified(node, handler):
    w = World(node, handler)
    pod, config = w.pod()
    if not is_v2():
        check_error(lambda: limited(w, pod, config, unified={"memory.high": "1000000"}), "FAILED_PRECONDITION", "cgroup v2")
        container = w.container(pod, config)
        check_error(lambda: update(w, container, unified={"memory.high": "1"}), "FAILED_PRECONDITION", "cgroup v2")
        return w.finish()
    container = limited(w, pod, config, unified={"memory.high": str(50 * MB), "pids.max": "77"})
    w.client.StartContainer(container_id=container)
    directory, _ = controller_dir("memory", limits_of(w, container).path)
    check_equal((read(directory, "memory.high"), read(directory, "pids.max")), (str(50 * MB), "77"), "at the start")
    update(w, container, unified={"memory.high": str(60 * MB), "memory.oom.group": "1"})
    check_equal((read(directory, "memory.high"), read(directory, "memory.oom.group"), read(directory, "pids.max")),
                (str(60 * MB), "1", "77"), "after an update")
    for bad in ["../memory.high", "memory/high", "cgroup.procs", "cgroup.freeze", "nonsense.max"]:
        check_error(lambda: update(w, container, unified={bad: "1"}), "INVALID_ARGUMENT")
    check_equal(dict(w.status(container).resources.linux.unified),
                {"memory.high": str(60 * MB), "pids.max": "77", "memory.oom.group": "1"}, "status")
    w.finish()


def test_unified_with_runc(node):
    unified(node, "runc")


def test_unified_with_crun(node):
    unified(node, "crun")


def test_unified_with_native(node):
    unified(node, "native")


def test_a_limit_below_what_is_used_ends_nothing(node):
    w = World(node)
    pod, config = w.pod()
    container = limited(w, pod, config, memory_limit_in_bytes=128 * MB)
    w.client.StartContainer(container_id=container)
    # tmpfs pages cannot be dropped.
    check_equal(w.sh(container, "dd if=/dev/zero of=/dev/shm/fill bs=1M count=40").exit_code, 0, "fill")
    check_error(lambda: update(w, container, memory_limit_in_bytes=20 * MB), "FAILED_PRECONDITION", "uses")
    s = w.status(container)
    check_equal((s.state, s.resources.linux.memory_limit_in_bytes), (w.pb.CONTAINER_RUNNING, 128 * MB), "afterwards")
    w.finish()


def test_pod_resources(node):
    w = World(node)
    pb = w.pb
    systemd = os.environ.get("CRISP_TEST_CGROUP_DRIVER") == "systemd"
    # A pod that named no parent has a cgroup of crisp's own; one that did has its caller's, which is not touched.
    ours, _ = w.pod("ours", cgroup_parent="")
    theirs, _ = w.pod("theirs")
    top, _ = controller_dir("memory", w.daemon.cgroup_top)
    os.makedirs(top, exist_ok=True)
    before = read(top, "memory.max" if is_v2() else "memory.limit_in_bytes")
    for pod in (ours, theirs):
        w.client.UpdatePodSandboxResources(
            pod_sandbox_id=pod, overhead=pb.LinuxContainerResources(memory_limit_in_bytes=MB),
            resources=pb.LinuxContainerResources(memory_limit_in_bytes=64 * MB, cpu_quota=50000, cpu_period=100000,
                                                 cpu_shares=512))
    path = f"/crisp.slice/crisp-{ours}.slice" if systemd else f"/crisp/{ours}"
    limits = Limits(path)
    check_equal((limits.memory, limits.quota), (65 * MB, (50000, 100000)), "limits of the pod's cgroup")
    check_equal(read(top, "memory.max" if is_v2() else "memory.limit_in_bytes"), before, "limit of somebody else's cgroup")
    w.daemon.kill()
    w.daemon.start()
    w.client = w.daemon.client()
    for pod in (ours, theirs):
        info = json.loads(w.client.PodSandboxStatus(pod_sandbox_id=pod, verbose=True).info["info"])
        check_equal(info["config"]["linux"]["resources"]["memory_limit_in_bytes"], 64 * MB, "recorded")
    w.client.UpdatePodSandboxResources(pod_sandbox_id=ours, resources=pb.LinuxContainerResources(memory_limit_in_bytes=32 * MB))
    check_equal(limits.memory, 33 * MB, "less, after a restart")
    check_error(lambda: w.client.UpdatePodSandboxResources(pod_sandbox_id="f" * 64), "NOT_FOUND")
    check_error(lambda: w.client.UpdatePodSandboxResources(
        pod_sandbox_id=ours, resources=pb.LinuxContainerResources(cpu_shares=-5)), "INVALID_ARGUMENT")
    w.finish()
    check(not os.path.exists(controller_dir("memory", path)[0]), "the pod's cgroup is left")


def test_rlimits(node):
    """pod.rlimits of the configuration, with each handler."""
    w = World(node, settings={"pod.rlimits": "nofile=100:200,core=0:-1"})
    for handler in ("native", "runc", "crun"):
        config = w.daemon.pod_config(handler)
        pod = w.client.RunPodSandbox(config=config, runtime_handler=handler).pod_sandbox_id
        container = w.container(pod, config)
        # Debian's runc, a Go program, has raised its own soft limit of files when it makes an exec.
        check_equal(w.sh(container, "ulimit -Hn; ulimit -c; ulimit -Hc").stdout, b"200\n0\nunlimited\n", f"limits of an exec with {handler}")
        with open(f"/proc/{json.loads(w.client.ContainerStatus(container_id=container, verbose=True).info['info'])['pid']}/limits") as f:
            row = next(line for line in f if line.startswith("Max open files"))
        check_equal(row.split()[3:5], ["100", "200"], f"limits of the container with {handler}")
    w.finish()


if __name__ == "__main__":
    harness.main()

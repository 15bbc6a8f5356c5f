#!/usr/bin/python3
"""Stats and metrics against the kernel's own accounting, read right before and right after: what a container uses must lie
between the two. Streamed lists against their unary replies. With runc and crun."""
import harness
import os
import socket
import threading
import time

from harness import check, check_equal, check_error, eventually
from world import World

MIB = 1 << 20


def cgroup_file(daemon, container, v1, v2):
    """The text of a container's file: `v1` is (controller, name)."""
    for mount in harness.cgroup_mounts():
        controllers = os.path.basename(mount).split(",")
        name = v1[1] if v1[0] in controllers else v2
        path = f"{mount}{daemon.cgroup_parent}/{container}/{name}"
        if os.path.exists(path) and (v1[0] in controllers or os.path.exists(f"{mount}/cgroup.controllers")):
            with open(path) as f:
                return f.read()
    raise AssertionError(f"no cgroup of {container} has {v1} or {v2}")


def value_of(text, key):
    return next((int(line.split()[1]) for line in text.splitlines() if line.split()[0] == key), None)


def cpu_truth(daemon, container):
    text = cgroup_file(daemon, container, ("cpuacct", "cpuacct.usage"), "cpu.stat")
    usage = value_of(text, "usage_usec")
    return int(text) if usage is None else usage * 1000


def between(read_truth, read_ours, what):
    """Ours is at most a second old by contract: asked until it is from after the first look at the truth."""
    began = time.time_ns()
    low = read_truth()
    timestamp, ours = eventually(lambda: (r := read_ours())[0] >= began and r, f"{what} is read anew")
    high = read_truth()
    check(low <= ours <= high, f"{what}: {ours} is not between {low} and {high}, which the kernel said")
    return ours


def near(seen, wanted, what, percent=5):
    check(abs(seen - wanted) * 100 <= wanted * percent, f"{what}: {seen}, wanted {wanted} ± {percent} %")


def on_wire(seen, what):
    """5 MiB as an interface counts them: with each packet's headers, 66 bytes to 1448 or less."""
    check(5 * MIB < seen < 5 * MIB * 1.15, f"{what}: {seen}, 5 MiB were sent")


def receive_all(listener, received):
    connection, _ = listener.accept()
    while data := connection.recv(1 << 16):
        received.append(len(data))


def metrics_of(client, pod, container):
    """{(name, labels after the six base labels): value} of the container, and of its pod."""
    reply = next(m for m in client.ListPodSandboxMetrics().pod_metrics if m.pod_sandbox_id == pod)
    of_container = next(m for m in reply.container_metrics if m.container_id == container)

    def as_dict(metrics):
        return {(m.name, *m.label_values[6:]): m.value.value for m in metrics}
    return as_dict(of_container.metrics), as_dict(reply.metrics), of_container.metrics[0]


def check_values(node, handler):
    w = World(node, handler)
    client, daemon = w.client, w.daemon
    pod, config = w.pod()
    # Holds 50 MiB of anonymous memory and has written 10 MiB of files.
    script = ("dd if=/dev/zero of=/written bs=1M count=10 2>/dev/null; sync; "
              f"(head -c {50 * MIB} /dev/zero; echo ready >&2; exec sleep 1000) | tail -c {50 * MIB} >/dev/null")
    container = w.container(pod, config, command=("/bin/sh", "-c", script), log_path="main.log")
    log = f"{config.log_directory}/main.log"
    eventually(lambda: "ready" in open(log).read(), "the container has what it shall have", 60)

    def stats():
        return client.ContainerStats(container_id=container).stats

    def pod_stats():
        return client.PodSandboxStats(pod_sandbox_id=pod).stats.linux

    # Processor: two seconds of it, by its own clock.
    w.sh(container, "while [ $(awk '{print $14+$15}' /proc/$$/stat) -lt 200 ]; do "
                    "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; done", timeout=100)
    used = between(lambda: cpu_truth(daemon, container),
                   lambda: ((s := stats().cpu).timestamp, s.usage_core_nano_seconds.value), "processor time")
    check(used >= 1_900_000_000, f"two seconds were burnt, {used} ns are told")
    between(lambda: cpu_truth(daemon, container),
            lambda: ((s := pod_stats().cpu).timestamp, s.usage_core_nano_seconds.value), "processor time of the pod")
    check(eventually(lambda: stats().cpu.HasField("usage_nano_cores"), "a second reading gives the rate"), "rate")

    # Memory.
    memory = eventually(lambda: (m := stats().memory).rss_bytes.value > 49 * MIB and m, "50 MiB are seen")
    near(memory.rss_bytes.value, 50 * MIB, "anonymous memory")
    truth = cgroup_file(daemon, container, ("memory", "memory.usage_in_bytes"), "memory.current")
    near(memory.usage_bytes.value, int(truth), "memory")
    check(0 < memory.working_set_bytes.value <= memory.usage_bytes.value, "the working set is a part of it")
    check(memory.page_faults.value * 4096 > 50 * MIB, "page faults")
    check_equal(stats().swap.swap_usage_bytes.value, 0, "swap")
    near(pod_stats().memory.rss_bytes.value, 50 * MIB, "anonymous memory of the pod")
    check_equal(pod_stats().process.process_count.value, 3, "processes: the shell and both ends of the pipe")

    # Network: 5 MiB to the host.
    gateway = client.PodSandboxStatus(pod_sandbox_id=pod).status.network.ip.rsplit(".", 1)[0] + ".1"
    received = []
    with socket.create_server((gateway, 0)) as listener:
        thread = threading.Thread(target=receive_all, args=(listener, received), daemon=True)
        thread.start()
        w.sh(container, f"head -c {5 * MIB} /dev/zero | nc {gateway} {listener.getsockname()[1]}", timeout=60)
        thread.join(60)
    check_equal(sum(received), 5 * MIB, "bytes that arrived")

    def interface_truth(column):
        out = w.sh(container, "cat /proc/net/dev").stdout.decode()
        return int(next(line for line in out.splitlines() if "eth0:" in line).split(":")[1].split()[column])
    sent = between(lambda: interface_truth(8),
                   lambda: ((n := pod_stats().network).timestamp, n.default_interface.tx_bytes.value), "bytes sent")
    on_wire(sent, "bytes sent")
    between(lambda: interface_truth(0),
            lambda: ((n := pod_stats().network).timestamp, n.default_interface.rx_bytes.value), "bytes received")
    check_equal(pod_stats().network.default_interface.name, "eth0", "default interface")
    born_with = node.links_allowed - {"lo"}  # sit0 and the like, where the kernel gives them to each namespace
    check_equal({i.name for i in pod_stats().network.interfaces} - born_with, set(), "lo is no interface of interest")

    # The writable layer, measured every few seconds.
    near(eventually(lambda: (u := stats().writable_layer.used_bytes.value) > 9 * MIB and u, "10 MiB are seen", 60),
         10 * MIB, "writable layer")

    # The same as metrics.
    names = {d.name: len(d.label_keys) for d in client.ListMetricDescriptors().descriptors}
    check_equal(len(names), 56, "metrics that a kubelet knows")
    before = cpu_truth(daemon, container) // 10**9
    of_container, of_pod, first = eventually(
        lambda: (m := metrics_of(client, pod, container)) and m, "metrics")
    seconds = of_container["container_cpu_usage_seconds_total", "total"]
    check(before - 1 <= seconds <= cpu_truth(daemon, container) // 10**9, f"processor time: {seconds}")
    near(of_container[("container_memory_rss",)], 50 * MIB, "container_memory_rss")
    check(of_container[("container_memory_max_usage_bytes",)] >= 50 * MIB, "container_memory_max_usage_bytes")
    check_equal(of_container[("container_processes",)], 3, "container_processes")
    check_equal(of_container[("container_threads",)], 3, "container_threads")
    check(of_container[("container_file_descriptors",)] >= 9, "container_file_descriptors")
    near(of_container[("container_last_seen",)], time.time(), "container_last_seen", 0.01)
    status = w.status(container)
    check_equal(of_container[("container_start_time_seconds",)], status.started_at // 10**9, "container_start_time_seconds")
    on_wire(of_pod["container_network_transmit_bytes_total", "eth0"], "container_network_transmit_bytes_total")
    layer = next(v for k, v in of_container.items() if k[0] == "container_fs_usage_bytes")
    near(layer, 10 * MIB, "container_fs_usage_bytes")
    check_equal(list(first.label_values[:6]),
                ["main", f"{daemon.cgroup_parent}/{container}", w.image, container, "default", "pod"], "labels")
    v2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    seen = {k[0] for k in of_container} | {k[0] for k in of_pod}
    optional = {n for n in names if "_fs_reads" in n or "_fs_writes" in n or "blkio" in n or "hugetlb" in n or "_cfs_" in n
                or "ulimits" in n or n.endswith("_cpu_quota") or ("pressure" in n and not v2)}
    check_equal(set(names) - seen - optional, set(), "metrics that are missing")
    check_equal(seen - set(names), set(), "metrics without a descriptor")
    check("pressure" not in " ".join(seen) or v2, "v1 has no pressure")

    # On the host's network there is nothing to tell apart from the host's.
    host, _ = w.pod("host", host_network=True)
    check(not client.PodSandboxStats(pod_sandbox_id=host).stats.linux.HasField("network"), "no network of a host's pod")
    client.StopContainer(container_id=container, timeout=0)
    check(not stats().HasField("cpu"), "an ended container uses nothing")
    client.StopPodSandbox(pod_sandbox_id=pod)
    check_error(lambda: client.PodSandboxStats(pod_sandbox_id=pod), "UNAVAILABLE", "is not ready")
    check_equal([s.attributes.id for s in client.ListPodSandboxStats().stats], [host], "the one pod that is ready")
    w.finish()


def test_values_with_runc(node):
    check_values(node, "runc")


def test_values_with_crun(node):
    check_values(node, "crun")


def test_values_with_native(node):
    check_values(node, "native")


def test_streams_equal_lists(node):
    w = World(node)
    client = w.client
    for name in ("a", "b"):
        pod, config = w.pod(name, labels={"app": name})
        w.container(pod, config, "one")
        w.container(pod, config, "two", start=False)

    def streamed(call, field, **request):
        return [item for message in call(**request) for item in getattr(message, field)]
    check_equal(streamed(client.StreamPodSandboxes, "pod_sandboxes"), list(client.ListPodSandbox().items), "pods")
    check_equal(streamed(client.StreamContainers, "containers"), list(client.ListContainers().containers), "containers")
    check_equal(streamed(client.StreamImages, "images"), list(client.ListImages().images), "images")
    labels = {"label_selector": {"app": "b"}}
    check_equal([s.attributes.labels["app"] for s in
                 streamed(client.StreamPodSandboxStats, "pod_sandbox_stats", filter=labels)], ["b"], "filtered pods")
    running = {"state": {"state": w.pb.CONTAINER_RUNNING}}
    check_equal(streamed(client.StreamContainers, "containers", filter=running),
                list(client.ListContainers(filter=running).containers), "running containers")
    check_equal([s.attributes.id for s in streamed(client.StreamContainerStats, "container_stats")],
                [s.attributes.id for s in client.ListContainerStats().stats], "stats of containers")
    check_equal([m.pod_sandbox_id for m in streamed(client.StreamPodSandboxMetrics, "pod_sandbox_metrics")],
                [m.pod_sandbox_id for m in client.ListPodSandboxMetrics().pod_metrics], "metrics")
    w.finish()


def test_what_is_going_away_disturbs_nobody(node):
    w = World(node)
    client = w.client
    pod, config = w.pod()
    stays = w.container(pod, config, "stays")
    done, failures, seen = threading.Event(), [], []

    def ask():
        while not done.is_set():
            try:
                stats = client.ListPodSandboxStats().stats
                seen.append(any(c.attributes.id == stays and c.HasField("cpu") for s in stats for c in s.linux.containers))
                client.ListPodSandboxMetrics()
                client.ListContainerStats()
            except Exception as error:  # whatever it is, it is the failure
                failures.append(error)
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for attempt in range(12):
        container = w.container(pod, config, "goes", attempt=attempt)
        client.StopContainer(container_id=container, timeout=0)
        client.RemoveContainer(container_id=container)
    done.set()
    for thread in threads:
        thread.join()
    check_equal(failures, [], "errors of lists")
    check(seen and all(seen), "the container that stays was in every list")
    w.finish()


harness.main()

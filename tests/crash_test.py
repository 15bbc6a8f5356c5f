#!/usr/bin/python3
"""kill -9 of crispd at any moment: no container notices, the lists are right after the restart, exit codes of containers
that ended meanwhile are right, repeated calls succeed, and after all pods are removed nothing is left.

With the native handler a second test kills shims as well, before, with and after the daemon: their containers are gone,
and shown so, their pods are not ready, and whoever stops, removes and makes them anew succeeds.

CRISP_CRASHES (default 25 with each handler) says how often it is killed, CRISP_SEED repeats a run. Times from start to ready are printed,
not judged: figures belong to bench/.
"""
import contextlib
import harness
import os
import random
import re
import select
import signal
import threading
import time

import grpc
from harness import check, check_equal, eventually

CRASHES = int(os.environ.get("CRISP_CRASHES", "25"))
STEADY = 20
CHURNING = 20

# Waits for /ctl/<name> and exits with the code written there; writes a line a second meanwhile.
WAITER = "n=0; while [ ! -s /ctl/$NAME ]; do n=$((n+1)); echo line $n; sleep 0.1; done; exit $(cat /ctl/$NAME)"


class Steady:
    """A pod that runs all the time; its container is told to exit now and then and made anew."""

    def __init__(self, daemon, client, index, image):
        import cri
        self.daemon, self.client, self.image, self.index = daemon, client, image, index
        self.name = f"steady-{index}"
        self.control = f"{daemon.dir}/ctl-{index}"
        os.makedirs(self.control, exist_ok=True)
        self.attempt = self.pod_attempt = 0
        self.pb = cri.pb
        self.make_pod()

    def make_pod(self):
        """Every other pod has a PID namespace of its own, with an init of the shim's; else each container has one."""
        self.config = self.daemon.pod_config(self.name, attempt=self.pod_attempt)
        self.pid_mode = self.pb.POD if self.index % 2 else self.pb.CONTAINER
        self.config.linux.security_context.namespace_options.pid = self.pid_mode
        self.pod = self.client.RunPodSandbox(config=self.config).pod_sandbox_id
        self.lost = False
        self.make_container()

    def remake_pod(self):
        """What a kubelet does with a pod that is not ready any more."""
        self.client.StopPodSandbox(pod_sandbox_id=self.pod)
        self.client.RemovePodSandbox(pod_sandbox_id=self.pod)
        self.attempt = 0
        self.pod_attempt += 1
        for entry in os.listdir(self.control):
            os.unlink(f"{self.control}/{entry}")
        self.make_pod()

    def make_container(self):
        import cri
        flag = f"exit-{self.attempt}"
        config = cri.container_config(
            "main", self.image, ["/bin/sh", "-c", WAITER], attempt=self.attempt,
            envs=[self.pb.KeyValue(key="NAME", value=flag.encode())],
            mounts=[self.pb.Mount(container_path="/ctl", host_path=self.control, readonly=True)])
        config.linux.security_context.namespace_options.pid = self.pid_mode
        self.flag = f"{self.control}/{flag}"
        self.container = self.client.CreateContainer(pod_sandbox_id=self.pod, config=config,
                                                     sandbox_config=self.config).container_id
        self.client.StartContainer(container_id=self.container)
        self.pid = self.find_pid()
        self.expected_code = None

    def find_pid(self):
        """The container's first process, by its cgroup: what the kernel says, not what crispd says. Not the lowest pid:
        they wrap around at 32768, and then a child's may be lower."""
        for mount in harness.cgroup_mounts():
            path = f"{mount}{self.daemon.cgroup_parent}/{self.container}/cgroup.procs"
            if not os.path.exists(path):
                continue
            parents = {}
            for pid in open(path).read().split():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/status") as f:
                    parents[pid] = re.search(r"^PPid:\t(\d+)", f.read(), re.M)[1]
            for pid, parent in parents.items():
                if parent not in parents:
                    return int(pid)
        raise AssertionError(f"no process in the cgroup of {self.name}")

    def alive(self):
        try:
            with open(f"/proc/{self.pid}/cgroup") as f:
                return self.container in f.read()
        except (FileNotFoundError, ProcessLookupError):
            return False

    def tell_to_exit(self, code):
        with open(self.flag + ".new", "w") as f:
            f.write(f"{code}\n")
        os.rename(self.flag + ".new", self.flag)
        self.expected_code = code

    def exit_file(self):
        return f"{self.daemon.dir}/state/pods/{self.pod}/exits/{self.container}"

    def kill_shim(self):
        kill_of_pod(self.daemon, self.pod)
        self.lost = True

    def kill_init(self):
        kill_of_pod(self.daemon, self.pod, "crisp-init")
        self.lost = True


def processes_of_pods(daemon, name="crisp-shim"):
    """{pod id: pid} of their shims, or of what the shims have forked: "crisp-init"."""
    found = {}
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if entry.isdigit():
                with open(f"/proc/{entry}/cmdline", "rb") as f:
                    words = f.read().decode(errors="replace").split("\0")
                with open(f"/proc/{entry}/comm") as f:
                    comm = f.read().strip()
                # A shim leads a session; a fork of it has its name for a moment.
                if name == "crisp-shim" and os.getsid(int(entry)) != int(entry):
                    continue
                if comm == name and len(words) >= 3 and words[2].startswith(f"{daemon.dir}/state/pods/"):
                    found[words[1]] = int(entry)
    return found


def kill_of_pod(daemon, pod, name="crisp-shim"):
    pid = processes_of_pods(daemon, name)[pod]
    pidfd = os.pidfd_open(pid)
    try:
        if processes_of_pods(daemon, name).get(pod) != pid:
            raise KeyError(pod)  # it has ended, and its number is another's
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        check(select.select([pidfd], [], [], 60)[0], f"{name} {pid} does not die")
    finally:
        os.close(pidfd)


class PodLost(Exception):
    """The pod's shim was killed: the pod is not ready, and whoever made it makes another one."""


class Churn(threading.Thread):
    """Makes and removes one pod after the other; repeats each call until it succeeds. `lossy`: shims are killed, and a pod
    that is not ready any more is stopped and removed instead."""

    def __init__(self, daemon, index, image, stop, lossy=False):
        super().__init__(name=f"churn-{index}", daemon=True)
        self.lossy, self.lost = lossy, 0
        self.daemon_under_test, self.index, self.image, self.stopping = daemon, index, image, stop
        self.client = daemon.client(default_timeout=120)
        import cri
        self.pb = cri.pb
        self.lives = 0
        self.error = None
        self.random = random.Random(index)

    def insist(self, what, call, done=lambda: False, pod=None):
        until = time.monotonic() + 180
        while True:
            try:
                return call()
            except grpc.RpcError as error:
                # Whether it is done, or cannot be: asked of a crispd that may be killed just then.
                with contextlib.suppress(grpc.RpcError):
                    if error.code().name not in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED") and done():
                        return None
                    if self.lossy and pod and self.not_ready(pod):
                        raise PodLost(pod) from None
                if time.monotonic() > until:
                    raise AssertionError(f"{what} does not succeed: {error.code().name}: {error.details()}") from None
                time.sleep(0.02)

    def not_ready(self, pod):
        return self.client.PodSandboxStatus(pod_sandbox_id=pod).status.state != self.pb.SANDBOX_READY

    def lost_pod(self, config):
        """The pod whose answer a killed crispd never gave, and whose shim was killed since: a kubelet finds it in the list."""
        return next((p.id for p in self.client.ListPodSandbox().items
                     if p.metadata == config.metadata and p.state != self.pb.SANDBOX_READY), None)

    def run(self):
        try:
            while not self.stopping.is_set():
                self.one_life()
                self.lives += 1
        except Exception as error:  # reported by the main thread
            self.error = error

    def one_life(self):
        c, config = self.client, self.daemon_under_test.pod_config(f"churn-{self.index}", attempt=self.lives + self.lost)
        pid_mode = self.pb.POD if self.random.random() < 0.3 else self.pb.CONTAINER
        config.linux.security_context.namespace_options.pid = pid_mode
        made = self.insist("RunPodSandbox", lambda: c.RunPodSandbox(config=config), lambda: self.lossy and self.lost_pod(config))
        pod = made.pod_sandbox_id if made else self.lost_pod(config)
        try:
            if not made:
                raise PodLost(pod)
            self.use_pod(pod, config)
        except PodLost:
            self.lost += 1
        self.insist("StopPodSandbox", lambda: c.StopPodSandbox(pod_sandbox_id=pod))
        self.insist("RemovePodSandbox", lambda: c.RemovePodSandbox(pod_sandbox_id=pod))

    def use_pod(self, pod, config):
        import cri
        c = self.client
        container_config = cri.container_config("main", self.image, ["/bin/sleep", "1000"])
        container_config.linux.security_context.namespace_options.pid = config.linux.security_context.namespace_options.pid
        container = self.insist("CreateContainer", lambda: c.CreateContainer(
            pod_sandbox_id=pod, config=container_config, sandbox_config=config), pod=pod).container_id

        def started():
            state = c.ContainerStatus(container_id=container).status.state
            return state == cri.pb.CONTAINER_RUNNING
        self.insist("StartContainer", lambda: c.StartContainer(container_id=container), started, pod=pod)
        if self.random.random() < 0.5:
            self.insist("StopContainer", lambda: c.StopContainer(container_id=container, timeout=0))
        if self.random.random() < 0.5:
            self.insist("RemoveContainer", lambda: c.RemoveContainer(container_id=container))


def verify(client, steady, pb):
    """The lists and statuses are right for the steady pods."""
    pods = {p.id: p for p in client.ListPodSandbox().items}
    containers = {c.id: c for c in client.ListContainers().containers}
    for s in steady:
        check(s.pod in pods, f"{s.name} is gone from the list")
        check(s.container in containers, f"the container of {s.name} is gone from the list")
        if s.lost:
            verify_lost(client, s, pb)
            continue
        check_equal(pods[s.pod].state, pb.SANDBOX_READY, f"state of {s.name}")
        if s.expected_code is None:
            check(s.alive(), f"the container of {s.name} died")
            check_equal(containers[s.container].state, pb.CONTAINER_RUNNING, f"container of {s.name}")
        else:
            check_exit(client, s, pb, [s.expected_code])


def verify_lost(client, s, pb):
    """What is left of a pod whose shim was killed."""
    eventually(lambda: client.PodSandboxStatus(pod_sandbox_id=s.pod).status.state == pb.SANDBOX_NOTREADY,
               f"{s.name} is not ready without its shim")
    # Where the container's own code is known, that; else killed, or ended by nobody knows what.
    check_exit(client, s, pb, [137, 255] if s.expected_code is None else [s.expected_code])
    eventually(lambda: (harness.reap(), not s.alive())[1], f"nothing of the container of {s.name} is alive, pid {s.pid}")
    for mount in harness.cgroup_mounts():
        eventually(lambda: not os.path.exists(f"{mount}{s.daemon.cgroup_top}/{s.container}"), f"cgroup of {s.name} is gone")


def check_exit(client, s, pb, codes):
    status = eventually(lambda: (r := client.ContainerStatus(container_id=s.container).status).state ==
                        pb.CONTAINER_EXITED and r, f"exit of {s.name} is known")
    check(status.exit_code in codes, f"exit code of {s.name}: {status.exit_code}, {status.reason}: {status.message!r}; wanted {codes}")
    check(status.finished_at >= status.started_at > 0, f"times of {s.name}")


class ShimKiller(threading.Thread):
    """Kills shims of churning pods at any moment. `making`: held by who makes a pod that is to be spared."""

    def __init__(self, daemon, steady, making, stop, chance):
        super().__init__(name="shim-killer", daemon=True)
        self.daemon_under_test, self.steady, self.making, self.stopping, self.chance = daemon, steady, making, stop, chance
        self.killed = 0
        self.error = None

    def run(self):
        try:
            while not self.stopping.wait(self.chance.uniform(0, 0.3)):
                with self.making:
                    keep = {s.pod for s in self.steady}
                    pods = sorted(pod for pod in processes_of_pods(self.daemon_under_test) if pod not in keep)
                    if pods:
                        with contextlib.suppress(KeyError, ProcessLookupError):  # it was stopped meanwhile
                            kill_of_pod(self.daemon_under_test, self.chance.choice(pods))
                            self.killed += 1
        except Exception as error:  # reported by the main thread
            self.error = error


def crash(node, handler, lossy=False):
    import cri
    seed = int(os.environ.get("CRISP_SEED", random.randrange(1 << 30)))
    print(f"# seed {seed}")
    chance = random.Random(seed)
    daemon = node.crispd(settings={"runtime.default_handler": handler})
    image = node.registry.push(harness.busybox_image(), "busybox")
    client = daemon.client(default_timeout=60)
    client.PullImage(image=cri.pb.ImageSpec(image=image))
    steady = [Steady(daemon, client, i, image) for i in range(STEADY)]
    stop, making = threading.Event(), threading.Lock()
    threads = churns = [Churn(daemon, i, image, stop, lossy) for i in range(CHURNING)]
    killer = ShimKiller(daemon, steady, making, stop, random.Random(seed + 1))
    if lossy:
        threads = [*churns, killer]
    for thread in threads:
        thread.start()
    ready_ms = []
    for round_number in range(CRASHES):
        time.sleep(chance.uniform(0, 0.4))  # the moment of the crash is what is drawn here
        leaving = chance.sample(steady, 3)
        # Of those whose shim is killed too: one before, one after crispd, one while it starts; the last one's container has
        # ended by then, and its shim has written how.
        losing = chance.sample([s for s in steady if s not in leaving], 4) if lossy else []
        if losing:
            losing[0].kill_shim()
            with_init = [s for s in steady if s.index % 2 and s not in leaving + losing]
            losing.append(chance.choice(with_init))
            losing[4].kill_init()  # its shim has no use without it, and ends
            time.sleep(chance.choice([0, 0.01, 0.2]))  # crispd may have begun to see to it
        daemon.kill()
        for s in leaving + losing[3:4]:
            s.tell_to_exit(chance.randrange(1, 120))
        for s in leaving[:2] + losing[3:4]:  # they end while crispd is dead, one may end at any time
            eventually(lambda: (harness.reap(), not s.alive())[1], f"container of {s.name}, pid {s.pid}, ends", seconds=120)
        if losing:
            eventually(lambda: os.path.exists(losing[3].exit_file()), "the exit file is written")
            losing[1].kill_shim()
            losing[3].kill_shim()
        for s in steady:
            check(s.expected_code is not None or s.lost or s.alive(), f"round {round_number}: {s.name} died with crispd")
        begin = time.monotonic()
        late = None
        if losing:
            late = threading.Timer(chance.uniform(0, 0.1), losing[2].kill_shim)
            late.start()
        daemon.start()
        ready_ms.append(1000 * (time.monotonic() - begin))
        if late:
            late.join()
        verify(client, steady, cri.pb)
        for s in leaving:
            client.RemoveContainer(container_id=s.container)
            s.attempt += 1
            s.make_container()
        for s in losing:
            with making:
                s.remake_pod()
        for thread in threads:
            if thread.error:
                raise thread.error
        harness.reap()
    stop.set()
    for thread in threads:
        thread.join(240)
        check(not thread.is_alive(), f"{thread.name} hangs")
        if thread.error:
            raise thread.error
    lives = sum(churn.lives for churn in churns)
    check(lives > 0, "no pod was made between the crashes")
    ready_ms.sort()
    also = f", {killer.killed} shims killed, {sum(churn.lost for churn in churns)} pods lost" if lossy else ""
    print(f"# {handler}: {CRASHES} crashes, {lives} pods made and removed meanwhile{also}, start to ready: "
          f"median {ready_ms[len(ready_ms) // 2]:.0f} ms, worst {ready_ms[-1]:.0f} ms")
    verify(client, steady, cri.pb)
    daemon.remove_all(client)
    daemon.check_clean()
    check_equal(daemon.stop(), 0, "exit code of crispd")


def test_crash_with_crun(node):
    crash(node, "crun")


def test_crash_with_native(node):
    crash(node, "native")


def test_crash_with_runc(node):
    crash(node, "runc")


def test_crash_of_shims_too(node):
    crash(node, "native", lossy=True)


harness.main()

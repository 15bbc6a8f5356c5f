#!/usr/bin/python3
"""kill -9 of crispd at any moment: no container notices, the lists are right after the restart, exit codes of containers
that ended meanwhile are right, repeated calls succeed, and after all pods are removed nothing is left.

CRISP_CRASHES (default 25 with each of the two runtimes) says how often it is killed, CRISP_SEED repeats a run. Times from start to ready are printed,
not judged: figures belong to bench/.
"""
import contextlib
import harness
import os
import random
import re
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
        self.config = daemon.pod_config(self.name)
        self.pod = client.RunPodSandbox(config=self.config).pod_sandbox_id
        self.attempt = 0
        self.expected_code = None
        self.pb = cri.pb
        self.make_container()

    def make_container(self):
        import cri
        flag = f"exit-{self.attempt}"
        config = cri.container_config(
            "main", self.image, ["/bin/sh", "-c", WAITER], attempt=self.attempt,
            envs=[self.pb.KeyValue(key="NAME", value=flag.encode())],
            mounts=[self.pb.Mount(container_path="/ctl", host_path=self.control, readonly=True)])
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


class Churn(threading.Thread):
    """Makes and removes one pod after the other; repeats each call until it succeeds."""

    def __init__(self, daemon, index, image, stop):
        super().__init__(name=f"churn-{index}", daemon=True)
        self.daemon_under_test, self.index, self.image, self.stopping = daemon, index, image, stop
        self.client = daemon.client(default_timeout=120)
        self.lives = 0
        self.error = None
        self.random = random.Random(index)

    def insist(self, what, call, done=lambda: False):
        until = time.monotonic() + 180
        while True:
            try:
                return call()
            except grpc.RpcError as error:
                if error.code().name not in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED") and done():
                    return None
                if time.monotonic() > until:
                    raise AssertionError(f"{what} does not succeed: {error.code().name}: {error.details()}") from None
                time.sleep(0.02)

    def run(self):
        try:
            while not self.stopping.is_set():
                self.one_life()
                self.lives += 1
        except Exception as error:  # reported by the main thread
            self.error = error

    def one_life(self):
        import cri
        c, config = self.client, self.daemon_under_test.pod_config(f"churn-{self.index}", attempt=self.lives)
        pod = self.insist("RunPodSandbox", lambda: c.RunPodSandbox(config=config)).pod_sandbox_id
        container_config = cri.container_config("main", self.image, ["/bin/sleep", "1000"])
        container = self.insist("CreateContainer", lambda: c.CreateContainer(
            pod_sandbox_id=pod, config=container_config, sandbox_config=config)).container_id

        def started():
            state = c.ContainerStatus(container_id=container).status.state
            return state == cri.pb.CONTAINER_RUNNING
        self.insist("StartContainer", lambda: c.StartContainer(container_id=container), started)
        if self.random.random() < 0.5:
            self.insist("StopContainer", lambda: c.StopContainer(container_id=container, timeout=0))
        if self.random.random() < 0.5:
            self.insist("RemoveContainer", lambda: c.RemoveContainer(container_id=container))
        self.insist("StopPodSandbox", lambda: c.StopPodSandbox(pod_sandbox_id=pod))
        self.insist("RemovePodSandbox", lambda: c.RemovePodSandbox(pod_sandbox_id=pod))


def verify(client, steady, pb):
    """The lists and statuses are right for the steady pods."""
    pods = {p.id: p for p in client.ListPodSandbox().items}
    containers = {c.id: c for c in client.ListContainers().containers}
    for s in steady:
        check(s.pod in pods, f"{s.name} is gone from the list")
        check_equal(pods[s.pod].state, pb.SANDBOX_READY, f"state of {s.name}")
        check(s.container in containers, f"the container of {s.name} is gone from the list")
        if s.expected_code is None:
            check(s.alive(), f"the container of {s.name} died")
            check_equal(containers[s.container].state, pb.CONTAINER_RUNNING, f"container of {s.name}")
        else:
            status = eventually(lambda: (r := client.ContainerStatus(container_id=s.container).status).state ==
                                pb.CONTAINER_EXITED and r, f"exit of {s.name} is known")
            check_equal(status.exit_code, s.expected_code, f"exit code of {s.name}")
            check(status.finished_at >= status.started_at > 0, f"times of {s.name}")


def crash(node, handler):
    import cri
    seed = int(os.environ.get("CRISP_SEED", random.randrange(1 << 30)))
    print(f"# seed {seed}")
    chance = random.Random(seed)
    daemon = node.crispd(settings={"runtime.default_handler": handler})
    image = node.registry.push(harness.busybox_image(), "busybox")
    client = daemon.client(default_timeout=60)
    client.PullImage(image=cri.pb.ImageSpec(image=image))
    steady = [Steady(daemon, client, i, image) for i in range(STEADY)]
    stop = threading.Event()
    churns = [Churn(daemon, i, image, stop) for i in range(CHURNING)]
    for churn in churns:
        churn.start()
    ready_ms = []
    for round_number in range(CRASHES):
        time.sleep(chance.uniform(0, 0.4))  # the moment of the crash is what is drawn here
        daemon.kill()
        leaving = chance.sample(steady, 3)
        for s in leaving:
            s.tell_to_exit(chance.randrange(1, 120))
        for s in leaving[:2]:  # two end while crispd is dead, one may end at any time
            eventually(lambda: (harness.reap(), not s.alive())[1], f"container of {s.name}, pid {s.pid}, ends", seconds=120)
        for s in steady:
            check(s.expected_code is not None or s.alive(), f"round {round_number}: {s.name} died with crispd")
        begin = time.monotonic()
        daemon.start()
        ready_ms.append(1000 * (time.monotonic() - begin))
        verify(client, steady, cri.pb)
        for s in leaving:
            client.RemoveContainer(container_id=s.container)
            s.attempt += 1
            s.make_container()
        for churn in churns:
            if churn.error:
                raise churn.error
        harness.reap()
    stop.set()
    for churn in churns:
        churn.join(240)
        check(not churn.is_alive(), f"{churn.name} hangs")
        if churn.error:
            raise churn.error
    lives = sum(churn.lives for churn in churns)
    check(lives > 0, "no pod was made between the crashes")
    ready_ms.sort()
    print(f"# {handler}: {CRASHES} crashes, {lives} pods made and removed meanwhile, start to ready: "
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


harness.main()

#!/usr/bin/python3
"""NRI plugins and CDI devices, with crispd and real OCI runtimes. Plugins are tests/nri_plugin.py; where there is a new enough Go,
also the reference implementation's own plugin side."""
import harness
import nri_plugin as nri
import json
import os
import shutil
import stat
import subprocess
import threading
import time

from harness import Skip, check, check_equal, check_error, eventually
from world import World

LIFE = ["CreateContainer", "ValidateContainerAdjustment", "PostCreateContainer", "StartContainer", "PostStartContainer",
        "StopContainer", "RemoveContainer"]


def make_world(node, handler="runc", **settings):
    # A loaded machine makes nobody fail who does not mean to.
    patient = {"nri.registration_timeout_seconds": "60", "nri.request_timeout_seconds": "30"}
    w = World(node, handler, settings=patient | {"nri.plugin_dir": f"{node.dir}/plugins", "nri.plugin_config_dir": f"{node.dir}/conf",
                                       "cdi.spec_dirs": f"{node.dir}/cdi", **settings})
    w.socket = f"{w.daemon.dir}/state/nri.sock"
    return w


def config_of(w, container):
    with open(f"{w.daemon.dir}/state/containers/{container}/config.json") as f:
        return json.load(f)


def end(w, pod, container):
    w.client.StopContainer(container_id=container, timeout=0)
    w.client.RemoveContainer(container_id=container)
    w.client.StopPodSandbox(pod_sandbox_id=pod)
    w.client.RemovePodSandbox(pod_sandbox_id=pod)


def adjusted_life(node, handler):
    w = make_world(node, handler)
    check_equal(stat.S_IMODE(os.stat(w.socket).st_mode), 0o600, "mode of the socket")

    def adjust(request):
        return nri.pb.CreateContainerResponse(adjust=nri.pb.ContainerAdjustment(
            annotations={"plugin": "was here"},
            env=[nri.pb.KeyValue(key="FROM_PLUGIN", value=request.container.name)],
            mounts=[nri.pb.Mount(destination="/extra", type="tmpfs", source="tmpfs", options=["size=1m"])],
            rlimits=[nri.pb.POSIXRlimit(type="RLIMIT_NOFILE", hard=333, soft=222)],
            linux=nri.pb.LinuxContainerAdjustment(
                devices=[nri.pb.LinuxDevice(path="/dev/mine", type="c", major=1, minor=3)],
                oom_score_adj=nri.pb.OptionalInt(value=977),
                resources=nri.pb.LinuxResources(cpu=nri.pb.LinuxCPU(shares=nri.pb.OptionalUInt64(value=333))))))

    with nri.Plugin(w.socket, CreateContainer=adjust) as plugin:
        plugin.ready()
        check_equal((plugin.config.runtime_name, plugin.config.request_timeout), ("crisp", 30_000), "Configure")
        pod, config = w.pod(labels={"app": "web"}, annotations={"note": "x"})
        container = w.container(pod, config)
        seen = w.sh(container, "echo $FROM_PLUGIN; ulimit -Hn; grep -c ' /extra tmpfs' /proc/mounts; cat /proc/$(pidof sleep)/oom_score_adj; "
                               "test -c /dev/mine && echo > /dev/mine && echo device").stdout.decode().split()
        check_equal(seen, ["main", "333", "1", "977", "device"], "what the container sees")
        check_equal(config_of(w, container)["linux"]["resources"]["cpu"]["shares"], 333, "shares")
        w.client.UpdateContainerResources(container_id=container, linux=w.pb.LinuxContainerResources(cpu_shares=444))
        end(w, pod, container)
        check_equal(plugin.methods(container), LIFE[:5] + ["UpdateContainer", "PostUpdateContainer"] + LIFE[5:], "events")
        check_equal([m for m in plugin.methods() if "Pod" in m], ["RunPodSandbox", "StopPodSandbox", "RemovePodSandbox"],
                    "events of the pod")
        run = next(request for method, request in plugin.events if method == "RunPodSandbox")
        check_equal((run.pod.id, run.pod.name, dict(run.pod.labels)), (pod, "pod", {"app": "web"}), "the pod as told")
        stop = next(request for method, request in plugin.events if method == "StopContainer")
        check_equal((stop.container.state, stop.container.exit_code, stop.container.name),
                    (nri.pb.CONTAINER_STOPPED, 137, "main"), "the container as told when it stops")
    w.finish()


def test_plugin_adjusts_and_follows_runc(node):
    adjusted_life(node, "runc")


def test_plugin_adjusts_and_follows_crun(node):
    adjusted_life(node, "crun")


def test_plugin_adjusts_and_follows_native(node):
    adjusted_life(node, "native")


def test_errors_conflicts_and_validators(node):
    w = make_world(node)
    answers = {}

    def answer(index):
        def handler(request):
            adjust = answers.get(index)
            if isinstance(adjust, Exception):
                raise adjust
            return nri.pb.CreateContainerResponse(adjust=adjust)
        return handler

    def validate(request):
        names = [f"{p.index}-{p.name}" for p in request.plugins]
        return nri.pb.ValidateContainerAdjustmentResponse(reject="FORBIDDEN" in [e.key for e in request.adjust.env],
                                                          reason=f"forbidden among {names}")

    with nri.Plugin(w.socket, "20", "b", CreateContainer=answer("b"), ValidateContainerAdjustment=validate) as b, \
            nri.Plugin(w.socket, "10", "a", CreateContainer=answer("a")) as a:
        a.ready(), b.ready()
        pod, config = w.pod()

        def create():
            return w.container(pod, config, start=False)

        env = nri.pb.ContainerAdjustment(env=[nri.pb.KeyValue(key="X", value="1")])
        answers.update(a=env, b=env)
        text = check_error(create, "INVALID_ARGUMENT", "10-a")
        check("20-b" in text and "ENV" in text and "X" in text, text)
        answers.update(a=nri.Refuse("9: not today"), b=None)
        check_error(create, "FAILED_PRECONDITION", "not today")
        answers.update(a=nri.pb.ContainerAdjustment(env=[nri.pb.KeyValue(key="FORBIDDEN", value="1")]))
        check_error(create, "PERMISSION_DENIED", "['10-a', '20-b']")
        check_equal(list(w.client.ListContainers().containers), [], "containers after failed creations")
        answers.update(a=env, b=nri.pb.ContainerAdjustment(
            env=[nri.pb.KeyValue(key="-X"), nri.pb.KeyValue(key="X", value="2")]))
        container = create()
        check("X=2" in config_of(w, container)["process"]["env"], "b has taken X over")
        try:
            nri.Plugin(w.socket, "9", "short")
            check(False, "an index of one digit was taken")
        except nri.Refuse as refused:
            check("index" in str(refused), str(refused))
        end(w, pod, container)
    w.finish()


def test_updates_of_other_containers(node):
    w = make_world(node)
    target, wish = {}, {}

    def shares(container, value, **more):
        return nri.pb.ContainerUpdate(container_id=container, linux=nri.pb.LinuxContainerUpdate(
            resources=nri.pb.LinuxResources(cpu=nri.pb.LinuxCPU(shares=nri.pb.OptionalUInt64(value=value)))), **more)

    def on_create(request):
        return nri.pb.CreateContainerResponse(update=wish.get("create", []))

    def on_update(request):
        return nri.pb.UpdateContainerResponse(update=[shares(request.container.id, 555)] if wish.get("update") else [])

    def shown(container):
        return w.status(container).resources.linux.cpu_shares

    with nri.Plugin(w.socket, CreateContainer=on_create, UpdateContainer=on_update) as plugin:
        plugin.ready()
        pod, config = w.pod()
        first = w.container(pod, config, "first")
        wish["create"] = [shares(first, 300), shares("f" * 64, 7, ignore_failure=True)]
        second = w.container(pod, config, "second")
        check_equal(shown(first), 300, "updated when the second was created")
        wish["create"] = [shares("f" * 64, 7)]
        check_error(lambda: w.container(pod, config, "third", start=False), "NOT_FOUND", "f" * 64)
        wish["update"] = True
        w.client.UpdateContainerResources(container_id=second, linux=w.pb.LinuxContainerResources(cpu_shares=444))
        check_equal(shown(second), 555, "the plugin changes what is asked for")
        answer = plugin.update(shares(first, 600), shares("e" * 64, 5))
        check_equal([u.container_id for u in answer.failed], ["e" * 64], "failed unasked updates")
        check_equal(shown(first), 600, "updated unasked")
    w.finish()


def test_a_late_plugin_misses_nothing(node):
    w = make_world(node)
    pod, config = w.pod()
    before = w.container(pod, config, "before")
    reached, release = threading.Event(), threading.Event()

    def synchronize(request):
        reached.set()
        release.wait(20)

    with nri.Plugin(w.socket, Synchronize=synchronize) as plugin:
        check(reached.wait(20), "Synchronize")
        made = {}
        threads = [threading.Thread(target=lambda n=n: made.update({n: w.container(pod, config, f"during{n}")})) for n in range(3)]
        for thread in threads:
            thread.start()
        check_equal([c.id for c in w.client.ListContainers().containers], [before], "lists do not wait")
        release.set()
        for thread in threads:
            thread.join()
        plugin.ready()
        check_equal([c.id for c in plugin.containers], [before], "told when it joined")
        check_equal([c.state for c in plugin.containers], [nri.pb.CONTAINER_RUNNING], "its state")
        check_equal([p.id for p in plugin.pods], [pod], "pods told when it joined")
        for container in made.values():
            check_equal(plugin.methods(container), LIFE[:5], "events of one created meanwhile")
    w.finish()


def test_plugins_that_join_while_containers_are_made(node):
    """Each plugin knows each container once, whenever it came: told when it was brought up to date, or by an event."""
    w = make_world(node, "native")
    pods, each, plugins = 4, 16, 6
    made, turn = [], threading.Condition()

    def make(number):
        pod, config = w.pod(f"pod{number}")
        for i in range(each):
            container = w.container(pod, config, f"c{i}", start=i % 4 == 0)
            with turn:
                made.append(container)
                turn.notify_all()

    threads = [threading.Thread(target=make, args=(n,)) for n in range(pods)]
    for thread in threads:
        thread.start()
    joined = []
    for number in range(plugins):
        with turn:
            check(turn.wait_for(lambda: len(made) >= number * pods * each // (plugins + 1), 60), "containers are made")
        joined.append(nri.Plugin(w.socket, index=f"{10 + number}", name=f"late{number}"))
    for thread in threads:
        thread.join()
    check_equal(len(made), pods * each, "containers made")
    mixed = 0
    for number, plugin in enumerate(joined):
        plugin.ready()
        told = [c.id for c in plugin.containers]
        created = [r.container.id for method, r in list(plugin.events) if method == "CreateContainer"]
        check_equal(sorted(told + created), sorted(made), f"what plugin {number} knows ({len(told)} told, {len(created)} seen)")
        check_equal(len({p.id for p in plugin.pods} | {r.pod.id for m, r in list(plugin.events) if m == "RunPodSandbox"}), pods, "pods")
        for container in created:
            check_equal(plugin.methods(container)[:3], LIFE[:3], "events of one created later")
        mixed += bool(told) and bool(created)
    check(mixed >= 2, f"only {mixed} plugins joined while containers were made")
    for plugin in joined:
        plugin.close()
    w.finish()


def test_silent_and_dying_plugins(node):
    w = make_world(node, **{"nri.request_timeout_seconds": "5", "nri.registration_timeout_seconds": "10"})
    hang = threading.Event()
    mute = nri.Plugin(w.socket, name=None)  # connects and never registers
    pod, config = w.pod("first")
    with nri.Plugin(w.socket, "10", "hangs", CreateContainer=lambda request: hang.wait(30) and None) as hangs, \
            nri.Plugin(w.socket, "20", "follows") as follows:
        hangs.ready(), follows.ready()
        container = w.container(pod, config)
        check(hangs.closed.wait(60), "a plugin that hangs is disconnected")
        check_equal(follows.methods(container), LIFE[:5], "events of the other plugin")
        check(mute.closed.wait(60), "a plugin that does not register is disconnected")
    with nri.Plugin(w.socket, "30", "dies", StartContainer=lambda request: dies.close()) as dies:
        dies.ready()
        w.container(pod, config, "second")
    with nri.Plugin(w.socket, "40", "babbles") as babbles:
        babbles.ready()
        babbles.socket.sendall(b"\xff" * 64)
        check(babbles.closed.wait(60), "a plugin that breaks the protocol is disconnected")
    hang.set()
    w.container(pod, config, "third")
    w.finish()


def test_plugins_of_the_directory(node):
    os.makedirs(f"{node.dir}/plugins")
    os.makedirs(f"{node.dir}/conf")
    for name, script in {"10-ours": f"exec /usr/bin/python3 -B {nri.ROOT}/tests/nri_plugin.py", "20-dies": "exit 3",
                         "nameless": "exit 0"}.items():
        path = f"{node.dir}/plugins/{name}"
        with open(path, "w") as f:
            f.write(f"#!/bin/sh\n{script}\n")
        os.chmod(path, 0o755)
    seen = f"{node.dir}/seen"
    with open(f"{node.dir}/conf/ours.conf", "w") as f:
        f.write(seen)
    w = make_world(node)
    pod, config = w.pod()
    container = w.container(pod, config)

    def lines():
        if not os.path.exists(seen):
            return []
        with open(seen) as f:
            return f.read().split("\n")
    eventually(lambda: "PostStartContainer" in lines(), "the plugin has seen the start")
    check_equal(lines()[1:3], ["RunPodSandbox", "CreateContainer"], "it was ready before the first pod")
    pid = int(lines()[0].split()[1])
    check_equal(lines()[0].split()[0], "ours", "its name")
    end(w, pod, container)
    w.finish()
    eventually(lambda: not os.path.exists(f"/proc/{pid}") or harness.reap(), "the plugin ends with crispd")


def test_restart_tells_a_plugin_of_all_there_is(node):
    w = make_world(node)
    pod, config = w.pod()
    containers = [w.container(pod, config, f"c{n}", ["/bin/sleep", "1000"], start=n == 0, envs=[
        w.pb.KeyValue(key="BIG", value=b"x" * 100_000)]) for n in range(50)]
    w.daemon.kill()
    w.daemon.start()
    w.client = w.daemon.client()
    with nri.Plugin(w.socket) as plugin:
        plugin.ready()
        check_equal(sorted(c.id for c in plugin.containers), sorted(containers), "containers told")
        check(plugin.sync_messages > 1, "5 MB in one message")
        with nri.Plugin(w.socket, "20", "other", Synchronize=lambda request: nri.pb.SynchronizeResponse()) as other:
            check(other.closed.wait(60), "a plugin that does not take several messages is disconnected")
    w.finish()


def test_two_crispds_side_by_side(node):
    one = make_world(node)
    two = node.crispd("second", bridge="crisptest1", subnet="10.89.0.0/16")
    check(os.path.exists(f"{two.dir}/state/nri.sock"), "the second one's socket")
    taken = node.crispd("third", {"nri.socket": one.socket}, bridge="crisptest2", subnet="10.90.0.0/16")
    check("served by another program" in taken.log_tail(), taken.log_tail())
    with nri.Plugin(one.socket) as plugin:
        plugin.ready()
    taken.stop(), two.stop()
    check(os.path.exists(one.socket), "the socket of the first one is still there")
    one.finish()
    check(not os.path.exists(one.socket), "a socket that nobody serves")


def test_cdi_devices(node):
    w = make_world(node)
    os.makedirs(f"{node.dir}/cdi")
    with open(f"{node.dir}/given", "w") as f:
        f.write("from the node\n")
    with open(f"{node.dir}/cdi/vendor.yaml", "w") as f:
        f.write(f"""cdiVersion: 0.8.0
kind: vendor.com/thing
containerEdits:
  env: [ALL=1]
devices:
- name: one
  containerEdits:
    env: [ONE=1]
    deviceNodes:
    - path: /dev/thing
      hostPath: /dev/null
    mounts:
    - hostPath: {node.dir}/given
      containerPath: /given
      options: [ro]
    additionalGids: [4242]
- name: two
  containerEdits:
    env: [TWO=1]
""")
    pod, config = w.pod()
    script = "echo $ALL$ONE$TWO; cat /given; id -G; test -c /dev/thing && echo x > /dev/thing && echo device"
    container = w.container(pod, config, "named", CDI_devices=[w.pb.CDIDevice(name="vendor.com/thing=one")],
                            annotations={"cdi.k8s.io/x": "vendor.com/thing=two,vendor.com/thing=one",
                                         "cdi.k8s.io.evil/x": "vendor.com/thing=none"})
    check_equal(w.sh(container, script).stdout.decode().split("\n"), ["111", "from the node", "0 4242", "device", ""],
                "what the container sees")
    check_error(lambda: w.container(pod, config, "none", CDI_devices=[w.pb.CDIDevice(name="vendor.com/thing=none")]),
                "NOT_FOUND", "vendor.com/thing=none")
    check_error(lambda: w.container(pod, config, "bad", annotations={"cdi.k8s.io/x": "thing"}), "INVALID_ARGUMENT", "thing")

    def adjust(request):
        return nri.pb.CreateContainerResponse(adjust=nri.pb.ContainerAdjustment(
            CDI_devices=[nri.pb.CDIDevice(name="vendor.com/thing=two")]))
    with nri.Plugin(w.socket, CreateContainer=adjust) as plugin:
        plugin.ready()
        container = w.container(pod, config, "by-a-plugin")
        check_equal(w.sh(container, "echo $ALL$ONE$TWO").stdout, b"11\n", "a device that a plugin adds")
    w.finish()


def test_annotations_by_exact_allow_list(node):
    """Row S56."""
    w = make_world(node, **{"handlers.runc.pod_annotations": "example.com/pod",
                            "handlers.runc.container_annotations": "example.com/container"})
    pod, config = w.pod(annotations={"example.com/pod": "1", "example.com/pod.x": "2", "example.com/container": "3"})
    container = w.container(pod, config, annotations={"example.com/container": "4", "example.com/pod.x": "5"})
    passed = {k: v for k, v in config_of(w, container)["annotations"].items() if k.startswith("example.com")}
    check_equal(passed, {"example.com/pod": "1", "example.com/container": "4"}, "annotations that the runtime sees")
    w.finish()


HOST_NETWORK = os.open("/proc/self/ns/net", os.O_RDONLY)  # before harness.main() makes one of our own

GO_PLUGIN = """package main

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
)

type plugin struct{}

func (plugin) Synchronize(_ context.Context, pods []*api.PodSandbox, ctrs []*api.Container) ([]*api.ContainerUpdate, error) {
	fmt.Println("Synchronize", len(pods), len(ctrs))
	return nil, nil
}

func (plugin) CreateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	size := 0
	for _, each := range c.GetEnv() {
		size += len(each)
	}
	fmt.Println("CreateContainer", c.GetName(), size > 100_000)
	a := &api.ContainerAdjustment{}
	a.AddEnv("FROM_GO", "1")
	return a, nil, nil
}

func (plugin) StopContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) ([]*api.ContainerUpdate, error) {
	fmt.Println("StopContainer", c.GetName())
	return nil, nil
}

func main() {
	s, err := stub.New(plugin{}, stub.WithPluginName("go"), stub.WithPluginIdx("50"), stub.WithSocketPath(os.Args[1]))
	if err == nil {
		err = s.Run(context.Background())
	}
	fmt.Println("end", err)
}
"""


def build_go_plugin(node):
    """The reference's plugin side; Debian 12's Go is too old for it."""
    go = shutil.which("go")
    if go is None:
        raise Skip("go is not installed")
    version = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True).stdout.strip()
    numbers = version.removeprefix("go").split(".")
    if not numbers[0].isdigit() or (int(numbers[0]), int(numbers[1].split("-")[0])) < (1, 24):
        raise Skip(f"go 1.24 is wanted, this is {version or 'unknown'}")
    directory = f"{node.dir}/go"
    os.makedirs(directory)
    with open(f"{directory}/main.go", "w") as f:
        f.write(GO_PLUGIN)
    with open(f"{directory}/go.mod", "w") as f:
        f.write("module crisp.test/plugin\n\ngo 1.24\n\nrequire github.com/containerd/nri v0.12.0\n")
    # The module proxy is not in the test's own network.
    host_network = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{HOST_NETWORK}", "--"]
    for command in (["mod", "tidy"], ["build", "-o", f"{node.dir}/go-plugin", "."]):
        built = subprocess.run([*host_network, go, *command], cwd=directory, capture_output=True, text=True,
                               env=os.environ | {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"})
        if built.returncode != 0:
            raise Skip(f"go {command[0]} does not work here: {built.stderr.strip().splitlines()[-1][:200] if built.stderr else '?'}")
    return f"{node.dir}/go-plugin"


def test_the_reference_plugin_side(node):
    program = build_go_plugin(node)
    w = make_world(node)
    output = f"{node.dir}/go-output"
    with open(output, "wb") as out:
        child = node.start(program, w.socket, stdout=out, stderr=out)

    def lines():
        with open(output) as f:
            return f.read().splitlines()
    eventually(lambda: "Synchronize 0 0" in lines(), "the plugin is up to date")
    pod, config = w.pod()
    # Messages longer than 4096 bytes are where the multiplexer's other side is particular.
    container = w.container(pod, config, envs=[w.pb.KeyValue(key="BIG", value=b"x" * 100_000)])
    check_equal(w.sh(container, "echo $FROM_GO").stdout, b"1\n", "adjusted by it")
    check("CreateContainer main true" in lines(), str(lines()))
    end(w, pod, container)
    eventually(lambda: "StopContainer main" in lines(), "the plugin has seen the end")
    child.terminate()
    child.wait()
    w.finish()


if __name__ == "__main__":
    harness.main()

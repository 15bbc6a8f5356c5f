#!/usr/bin/python3
"""Bad input, broken neighbours, full disks: a clear status, nothing half made, and the daemon serves on."""
import harness
import http.server
import json
import os
import threading

from harness import check, check_equal, check_error, eventually

HEX = "f" * 64
RESETS = 2000


class World:
    def __init__(self, node, **options):
        import cri
        self.cri, self.pb = cri, cri.pb
        self.daemon = node.crispd(**options)
        self.client = self.daemon.client()

    def pull_busybox(self, node):
        self.image = self.client.PullImage(image=self.pb.ImageSpec(
            image=node.registry.push(harness.busybox_image(), "busybox"))).image_ref

    def still_works(self, node):
        """A whole pod life, after everything that was done to the daemon."""
        self.pull_busybox(node)
        config = self.daemon.pod_config("after")
        pod = self.client.RunPodSandbox(config=config).pod_sandbox_id
        container = self.client.CreateContainer(pod_sandbox_id=pod, sandbox_config=config, config=self.cri.container_config(
            "c", self.image, ["/bin/sleep", "1000"])).container_id
        self.client.StartContainer(container_id=container)
        check_equal(self.client.ExecSync(container_id=container, cmd=["/bin/echo", "alive"]).stdout, b"alive\n", "exec")
        self.daemon.remove_all(self.client)
        self.daemon.check_clean()


def test_s47_calls_that_are_cancelled_at_once(node):
    """CVE-2023-44487 by gRPC: each cancelled call is a stream opened and reset. The daemon serves others meanwhile, and keeps
    neither threads nor descriptors of them."""
    w = World(node)
    w.pull_busybox(node)
    pid = w.daemon.process.pid

    def kept():
        with open(f"/proc/{pid}/status") as f:
            threads = next(int(line.split()[1]) for line in f if line.startswith("Threads:"))
        return threads, len(os.listdir(f"/proc/{pid}/fd"))
    attacker = w.daemon.client()
    calls = [("ListContainers", w.pb.ListContainersRequest(), w.pb.ListContainersResponse),
             ("RunPodSandbox", w.pb.RunPodSandboxRequest(config=w.daemon.pod_config("reset")), w.pb.RunPodSandboxResponse)]
    methods = [attacker.channel.unary_unary(f"/runtime.v1.RuntimeService/{name}", request_serializer=type(request).SerializeToString,
                                            response_deserializer=reply.FromString) for name, request, reply in calls]
    events = attacker.channel.unary_stream("/runtime.v1.RuntimeService/GetContainerEvents",
                                           request_serializer=w.pb.GetEventsRequest.SerializeToString,
                                           response_deserializer=w.pb.ContainerEventResponse.FromString)
    before = kept()
    for i in range(RESETS):
        calls_of_round = [method.future(request) for method, (_, request, _) in zip(methods, calls)] + [events(w.pb.GetEventsRequest())]
        for call in calls_of_round:
            call.cancel()
        if i % 100 == 0:
            check_equal(w.client.Version().runtime_name, "crisp", "another client meanwhile")
    attacker.close()
    # gRPC and crispd keep some threads for the next calls: what grows with the number of resets is what matters.
    eventually(lambda: all(after < was + 64 for after, was in zip(kept(), before)), f"threads and descriptors from {before} on")
    w.daemon.remove_all(w.client)
    w.still_works(node)


def test_missing_and_hostile_fields(node):
    w = World(node)
    w.pull_busybox(node)
    c, pb = w.client, w.pb
    invalid = "INVALID_ARGUMENT"
    check_error(lambda: c.RunPodSandbox(), invalid, "config")
    check_error(lambda: c.RunPodSandbox(config=pb.PodSandboxConfig()), invalid, "metadata")
    for field in ("name", "namespace", "uid"):
        for value in ("", "..", "a/b", "x" * 5000) if field != "uid" else ("", "a/b", "x" * 5000):
            config = w.daemon.pod_config("ok")
            setattr(config.metadata, field, value)
            check_error(lambda: c.RunPodSandbox(config=config), invalid, field)
    config = w.daemon.pod_config("ok")
    config.metadata.name = "nul\0byte"
    check_error(lambda: c.RunPodSandbox(config=config), invalid, "name")
    check_error(lambda: c.RunPodSandbox(config=w.daemon.pod_config("ok"), runtime_handler="nope"), invalid, "nope")
    for key, value in (("kernel.hostname", "x"), ("vm.overcommit_memory", "1"), ("net.ipv4.ip_forward", "1\n2"),
                       ("net/../../kernel/core_pattern", "|/bin/sh"), ("kernel.core_pattern", "+x")):
        config = w.daemon.pod_config("ok")
        config.linux.sysctls[key] = value
        check_error(lambda: c.RunPodSandbox(config=config), invalid, "sysctl")
    check_equal(len(c.ListPodSandbox().items), 0, "pods made by bad requests")

    config = w.daemon.pod_config("pod")
    pod = c.RunPodSandbox(config=config).pod_sandbox_id
    good = lambda: w.cri.container_config("c", w.image, ["/bin/true"])
    create = lambda k, p=pod: c.CreateContainer(pod_sandbox_id=p, config=k, sandbox_config=config)
    check_error(lambda: c.CreateContainer(pod_sandbox_id=pod, sandbox_config=config), invalid, "config")
    check_error(lambda: create(good(), HEX), "NOT_FOUND", HEX)
    for name in ("", "..", "a/b", "x" * 5000):
        k = good()
        k.metadata.name = name
        check_error(lambda: create(k), invalid, "name")
    k = good()
    k.image.image = "not-here:v1"
    check_error(lambda: create(k), "NOT_FOUND", "not-here")
    for log_path in ("../escape.log", "/etc/cron.d/x", "a/../../b"):
        k = good()
        k.log_path = log_path
        check_error(lambda: create(k), invalid, "log_path")
    for mount in (pb.Mount(container_path="relative", host_path="/tmp"), pb.Mount(container_path="/x", host_path="tmp"),
                  pb.Mount(container_path="", host_path="/tmp"), pb.Mount(container_path="/x", host_path="/tmp/\0")):
        k = good()
        k.mounts.append(mount)
        check_error(lambda: create(k), invalid, "mount")
    k = good()
    k.linux.security_context.capabilities.add_capabilities.append("CAP_NONSENSE")
    check_error(lambda: create(k), invalid, "NONSENSE")
    k = good()
    k.linux.security_context.seccomp.profile_type = pb.SecurityProfile.Localhost
    k.linux.security_context.seccomp.localhost_ref = "/no/such/profile.json"
    check_equal(failure(lambda: create(k)), True, "a missing seccomp profile is refused")
    check_equal(len(c.ListContainers().containers), 0, "containers made by bad requests")

    for call in (lambda: c.StartContainer(container_id=HEX), lambda: c.ContainerStatus(container_id=HEX),
                 lambda: c.ExecSync(container_id=HEX, cmd=["x"]), lambda: c.ReopenContainerLog(container_id=HEX),
                 lambda: c.UpdateContainerResources(container_id=HEX, linux=pb.LinuxContainerResources(cpu_shares=100)),
                 lambda: c.PodSandboxStatus(pod_sandbox_id=HEX)):
        check_error(call, "NOT_FOUND")
    for call in (lambda: c.RemoveContainer(container_id=HEX), lambda: c.RemovePodSandbox(pod_sandbox_id=HEX),
                 lambda: c.StopPodSandbox(pod_sandbox_id=HEX)):
        call()  # already as asked
    for image in ("", "busyBox", "a b", "x@sha256:../../etc", "busybox:" + "t" * 200, "http://x/y"):
        check_error(lambda: c.PullImage(image=pb.ImageSpec(image=image)), invalid)
    w.still_works(node)


def failure(call):
    import grpc
    try:
        call()
        return False
    except grpc.RpcError:
        return True


class Liar(http.server.BaseHTTPRequestHandler):
    """A registry that lies as its `mode` says."""
    mode, image = "", None

    def log_message(self, *_):
        pass

    def do_GET(self):
        image, mode = self.image, self.mode
        if self.path == "/v2/":
            return self.answer(200, b"{}")
        if "/manifests/" in self.path:
            manifest = json.loads(image.manifest)
            if mode == "size":
                manifest["layers"][0]["size"] -= 1
            if mode == "both":
                manifest["manifests"] = []
            if mode == "digest-path":
                manifest["layers"][0]["digest"] = "sha256:../../../../etc/passwd"
            if mode == "huge-manifest":
                return self.answer(200, b'{"x":"' + b"y" * (5 << 20) + b'"}', "application/vnd.oci.image.manifest.v1+json")
            if mode == "garbage":
                return self.answer(200, b"\x00\xff garbage", "application/vnd.oci.image.manifest.v1+json")
            if mode == "500":
                return self.answer(500, b"no")
            if mode == "404":
                return self.answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
            if mode == "401":
                return self.answer(401, b"{}")
            return self.answer(200, json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
        digest = self.path.rsplit("/", 1)[-1]
        for blob in [image.config, *image.layers]:
            if harness.sha256(blob) == digest:
                if mode == "content" and blob is image.layers[0]:
                    blob = blob[:-20] + b"x" * 20
                if mode == "truncate" and blob is image.layers[0]:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(blob)))
                    self.end_headers()
                    self.wfile.write(blob[:len(blob) // 2])
                    self.close_connection = True
                    return None
                return self.answer(200, blob)
        return self.answer(404, b"{}")

    do_HEAD = do_GET

    def answer(self, status, body, content_type="application/octet-stream"):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def test_lying_and_unreachable_registries(node):
    w = World(node)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_port}"
    Liar.image = harness.busybox_image()
    for mode, code in (("size", "DATA_LOSS"), ("content", "DATA_LOSS"), ("both", "INVALID_ARGUMENT"),
                       ("digest-path", "INVALID_ARGUMENT"), ("huge-manifest", ""), ("garbage", ""), ("404", "NOT_FOUND"),
                       ("401", "UNAUTHENTICATED"), ("500", "RegistryUnavailable"), ("truncate", "")):
        Liar.mode = mode
        try:
            w.client.PullImage(image=w.pb.ImageSpec(image=f"{host}/lie:{mode}"), timeout=120)
        except Exception as error:
            seen = error.code().name
            # A kubelet looks for these names at the beginning of a text with the code UNKNOWN.
            if seen == "UNKNOWN" and ":" in error.details():
                seen = error.details().split(":")[0]
        else:
            raise AssertionError(f"{mode}: pulled")
        check(seen == code or not code and seen not in ("OK", "UNKNOWN"), f"{mode}: {seen}")
        check_equal(len(w.client.ListImages().images), 0, f"images after {mode}")
        check_equal(os.listdir(f"{w.daemon.dir}/root/images/tmp"), [], f"left after {mode}")
    server.shutdown()
    server.server_close()
    check_error(lambda: w.client.PullImage(image=w.pb.ImageSpec(image=f"{host}/gone:v1"), timeout=120), "UNKNOWN",
                "RegistryUnavailable")
    w.still_works(node)


PLUGINS = {
    "fails": "#!/bin/sh\necho '{\"cniVersion\":\"1.0.0\",\"code\":11,\"msg\":\"no more addresses\"}'\nexit 1\n",
    "garbage": "#!/bin/sh\necho 'this is } not json'\n",
    "silent": "#!/bin/sh\nexit 3\n",
    "floods": "#!/bin/sh\nyes | head -c 100000000\n",
}


def test_broken_cni_plugins(node):
    directory = f"{node.dir}/crisp"
    os.makedirs(f"{directory}/cni")
    os.makedirs(f"{node.dir}/plugins")
    for name, text in PLUGINS.items():
        # DEL works, so that what ADD left can be removed
        with open(f"{node.dir}/plugins/{name}", "w") as f:
            f.write(text.replace("#!/bin/sh\n", "#!/bin/sh\n[ $CNI_COMMAND = DEL ] && exit 0\n"))
        os.chmod(f"{node.dir}/plugins/{name}", 0o755)
    conflist = f"{directory}/cni/10-broken.conflist"

    def use(*plugins):
        text = json.dumps({"cniVersion": "1.0.0", "name": "broken", "plugins": list(plugins)})
        with open(conflist + ".new", "w") as f:
            f.write(text)
        os.rename(conflist + ".new", conflist)
        harness.eventually(lambda: plugins[-1]["type"] in str(w.client.Status(verbose=True).info), "the conflist is taken up")
    bridge = {"type": "bridge", "bridge": "crisptest0", "isGateway": True, "ipam": {
        "type": "host-local", "dataDir": f"{directory}/networks", "ranges": [[{"subnet": "10.88.0.0/16"}]]}}
    with open(conflist, "w") as f:
        json.dump({"cniVersion": "1.0.0", "name": "broken", "plugins": [bridge, {"type": "fails"}]}, f)
    w = World(node, settings={"cni.bin_dirs": f'["{node.dir}/plugins"]'})
    for name in PLUGINS:
        use(bridge, {"type": name})
        message = refused(w, name)
        check(name in message, f"the error names the plugin: {message}")
        check_equal(len(w.client.ListPodSandbox().items), 0, f"pods after {name}")
        w.daemon.check_clean()
    use({**bridge, "name": "ok"}, {"type": "portmap"})
    w.still_works(node)


def refused(w, name):
    try:
        w.client.RunPodSandbox(config=w.daemon.pod_config(f"pod-{name}"), timeout=120)
    except Exception as error:
        return error.details()
    raise AssertionError(f"the pod runs with a plugin that {name}")


def test_full_disks(node):
    """State and image directories on small filesystems: errors say so, removing works, and after that all works again."""
    for what in ("root", "state"):
        name = f"full-{what}"
        directory = f"{node.dir}/{name}/{what}"
        os.makedirs(directory)
        harness.run("mount", "-t", "tmpfs", "-o", "size=40m", "none", directory)
        w = World(node, name=name)
        w.pull_busybox(node)
        config = w.daemon.pod_config("pod")
        pod = w.client.RunPodSandbox(config=config).pod_sandbox_id
        with open(f"{directory}/filler", "wb") as f:
            try:
                while True:
                    f.write(b"\0" * 65536)
                    f.flush()
            except OSError:
                pass
        for _ in range(5):
            try:
                w.client.RunPodSandbox(config=w.daemon.pod_config("more"))
                break
            except Exception as error:
                check_equal(error.code().name, "RESOURCE_EXHAUSTED", f"{what}: {error.details()}")
        big = harness.Image([harness.layer_tar({"/big": os.urandom(30 << 20)})])
        if what == "root":
            reference = node.registry.push(big, "big")
            check_error(lambda: w.client.PullImage(image=w.pb.ImageSpec(image=reference)), "RESOURCE_EXHAUSTED")
        w.client.ListPodSandbox()
        w.client.StopPodSandbox(pod_sandbox_id=pod)
        w.client.RemovePodSandbox(pod_sandbox_id=pod)
        w.client.RemoveImage(image=w.pb.ImageSpec(image=w.image))
        os.unlink(f"{directory}/filler")
        w.daemon.remove_all(w.client)
        w.still_works(node)
        w.daemon.stop()


def test_s53_filling_the_pods_files(node):
    """A container grows every file that it has of crispd: it hits their small file system, not the node's."""
    for handler in ("native", "runc"):
        name = f"filling-{handler}"
        w = World(node, name=name, settings={"runtime.default_handler": handler})
        w.pull_busybox(node)
        config = w.daemon.pod_config("pod")
        pod = w.client.RunPodSandbox(config=config).pod_sandbox_id
        container = w.client.CreateContainer(pod_sandbox_id=pod, sandbox_config=config, config=w.cri.container_config(
            "c", w.image, ["/bin/sleep", "1000"])).container_id
        w.client.StartContainer(container_id=container)

        def sh(script):
            return w.client.ExecSync(container_id=container, cmd=["/bin/sh", "-c", script])
        state = os.statvfs(f"{w.daemon.dir}/state")
        for path in ("/etc/hosts", "/etc/resolv.conf", "/etc/hostname"):
            check_equal(sh(f"echo '# more' >> {path} && grep -c more {path}").stdout.strip(), b"1", f"{path} can be changed")
            filled = sh(f"dd if=/dev/zero bs=64k count=1024 >> {path}")
            check(filled.exit_code != 0 and b"No space" in filled.stderr, f"{path}: {filled}")
        check(sh("dd if=/dev/zero of=/dev/shm/f bs=1M count=65").exit_code != 0, "/dev/shm has no end")
        now = os.statvfs(f"{w.daemon.dir}/state")
        check((state.f_bavail - now.f_bavail) * state.f_bsize < 4 << 20, "the state directory was filled")
        # Others get theirs, and it all goes.
        more = w.client.RunPodSandbox(config=w.daemon.pod_config("more"))
        check(more.pod_sandbox_id != pod, "another pod")
        w.still_works(node)
        w.daemon.stop()


def test_s52_swapped_sources(node):
    """What was mounted when the container was created is what it gets, or it does not start: a path of it that has become a
    symlink meanwhile leads nowhere else."""
    for handler in ("runc", "crun", "native"):
        name = f"swapped-{handler}"
        w = World(node, name=name, settings={"runtime.default_handler": handler})
        w.pull_busybox(node)
        config = w.daemon.pod_config("pod")
        pod = w.client.RunPodSandbox(config=config).pod_sandbox_id
        shared, secret = f"{node.dir}/{name}/shared", f"{node.dir}/{name}/secret"
        for directory, text in ((f"{shared}/volume/sub", "mine"), (f"{secret}/sub", "the node's")):
            os.makedirs(directory)
            with open(f"{directory}/file", "w") as f:
                f.write(text)
        mounts = [w.pb.Mount(container_path="/data", host_path=f"{shared}/volume/sub"),
                  w.pb.Mount(container_path="/one", host_path=f"{shared}/volume/sub/file")]
        container = w.client.CreateContainer(pod_sandbox_id=pod, sandbox_config=config, config=w.cri.container_config(
            "c", w.image, ["/bin/sleep", "1000"], mounts=mounts)).container_id
        os.rename(f"{shared}/volume", f"{shared}/old")
        os.symlink(secret, f"{shared}/volume")
        if handler == "native":
            check_error(lambda: w.client.StartContainer(container_id=container), "INTERNAL", "symbolic links")
        else:
            w.client.StartContainer(container_id=container)
            seen = w.client.ExecSync(container_id=container, cmd=["/bin/cat", "/data/file", "/one"])
            check_equal(seen.stdout, b"minemine", f"what {handler} mounted: {seen.stderr}")
            # A volume is not busy for longer than its container runs.
            with open("/proc/self/mountinfo") as f:
                check(f"containers/{container}/mounts" not in f.read(), "staged mounts stay while the container runs")
        w.still_works(node)
        w.daemon.stop()


harness.main()

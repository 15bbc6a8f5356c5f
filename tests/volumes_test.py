#!/usr/bin/python3
"""User namespaces, image volumes, artifacts and mount options with runc and crun: who sees which ids, what is read-only,
what is refused and in which words, and nothing left afterwards."""
import harness
import json
import os
import stat
import subprocess

from harness import check, check_equal, check_error, eventually

BASE, SIZE = 100000, 65536


def mapping(pb, host=BASE, container=0, length=SIZE):
    return pb.IDMapping(host_id=host, container_id=container, length=length)


def userns(pb, **more):
    return pb.UserNamespace(mode=pb.POD, uids=[mapping(pb)], gids=[mapping(pb)], **more)


class World:
    """crispd with an image pulled, and short words for what tests do all the time."""

    def __init__(self, node, handler):
        import cri
        self.cri, self.pb = cri, cri.pb
        os.chmod(node.dir, 0o755)  # a user namespace's root must get to the state directory
        self.daemon = node.crispd(settings={"runtime.default_handler": handler})
        self.client = self.daemon.client()
        reference = node.registry.push(harness.busybox_image(), "busybox")
        self.image = self.client.PullImage(image=self.pb.ImageSpec(image=reference)).image_ref

    def pod(self, name="pod"):
        config = self.daemon.pod_config(name)
        return self.client.RunPodSandbox(config=config).pod_sandbox_id, config

    def container(self, pod, config, name="main", command=("/bin/sleep", "1000"), **more):
        container = self.client.CreateContainer(
            pod_sandbox_id=pod, sandbox_config=config,
            config=self.cri.container_config(name, self.image, command, **more)).container_id
        self.client.StartContainer(container_id=container)
        return container

    def status(self, container):
        return self.client.ContainerStatus(container_id=container).status

    def wait_exit(self, container):
        return eventually(lambda: (s := self.status(container)).state == self.pb.CONTAINER_EXITED and s,
                          "the container exits")

    def sh(self, container, script):
        return self.client.ExecSync(container_id=container, cmd=["/bin/sh", "-c", script])

    def finish(self):
        self.daemon.remove_all(self.client)
        self.daemon.check_clean()
        check_equal(self.daemon.stop(), 0, "exit code of crispd")

    def restart(self):
        self.daemon.kill()
        self.daemon.start()
        self.client = self.daemon.client()

    def userns_pod(self, name="pod", pid=None):
        config = self.daemon.pod_config(name)
        options = config.linux.security_context.namespace_options
        options.userns_options.CopyFrom(userns(self.pb))
        options.pid = self.pb.POD if pid is None else pid
        return self.client.RunPodSandbox(config=config).pod_sandbox_id, config

    def security(self, pid=None, **more):
        linux = self.pb.LinuxContainerConfig()
        linux.security_context.namespace_options.userns_options.CopyFrom(userns(self.pb))
        linux.security_context.namespace_options.pid = self.pb.POD if pid is None else pid
        for key, value in more.items():
            if isinstance(value, int):
                getattr(linux.security_context, key).value = value
        return linux

    def out(self, container, script):
        reply = self.sh(container, script)
        check_equal((reply.exit_code, reply.stderr), (0, b""), script)
        return reply.stdout.decode().strip()


def life_in_userns(node, handler):
    w = World(node, handler)
    data, plain = f"{node.dir}/data", f"{node.dir}/plain"
    os.makedirs(data), os.makedirs(plain)
    os.chmod(data, 0o700)
    with open(f"{data}/f", "w") as f:
        f.write("of root")
    with open(f"{plain}/f", "w") as f:
        f.write("of the node's root")
    for shared in (True, False):
        name = "shared" if shared else "own"
        pid = w.pb.POD if shared else w.pb.CONTAINER
        pod, config = w.userns_pod(name, pid)
        mounts = [w.pb.Mount(container_path="/data", host_path=data, uidMappings=[mapping(w.pb)], gidMappings=[mapping(w.pb)]),
                  w.pb.Mount(container_path="/plain", host_path=plain)]
        linux = w.security(pid)
        linux.resources.memory_limit_in_bytes = 64 << 20
        container = w.container(pod, config, mounts=mounts, linux=linux)
        check_equal(w.out(container, "cat /proc/self/uid_map").split(), ["0", str(BASE), str(SIZE)], "uid_map")
        check_equal(w.out(container, "id -u; id -g").split(), ["0", "0"], "ids inside")
        check_equal(w.out(container, "stat -c %u:%g / /bin/busybox /data /data/f").split(), ["0:0"] * 4, "owners")
        check_equal(w.out(container, "stat -c %u /plain/f"), "65534", "owner on a mount without mappings")
        w.out(container, "cat /plain/f; echo new > /data/new; echo x > /new; chown 1000:1000 /data/new")
        seen = os.stat(f"{data}/new")
        check_equal((seen.st_uid, seen.st_gid), (1000, 1000), "owner on the node of a file on a mapped mount")
        check_equal(os.stat(f"{data}/f").st_uid, 0, "nothing was chowned")
        check("x" in w.out(container, "cat /new"), "the root file system can be written")
        # The pod's own namespaces are owned by its user namespace: what is its root's right works.
        w.out(container, "cat /etc/resolv.conf /etc/hosts /etc/hostname; echo 127.0.0.9 me >> /etc/hosts")
        check_equal(w.out(container, "hostname"), name, "hostname")
        w.out(container, "echo x > /dev/shm/x; stat -c %u /dev/shm | grep -x 0; ping -c 1 -W 2 127.0.0.1 > /dev/null")
        status = w.client.PodSandboxStatus(pod_sandbox_id=pod).status
        check_equal(status.linux.namespaces.options.userns_options, userns(w.pb), "status")
        # S35: all of it below the pod's cgroup, and the limit counts.
        host_pid = int(json.loads(w.client.ContainerStatus(container_id=container, verbose=True).info["info"])["pid"])
        groups = open(f"/proc/{host_pid}/cgroup").read()
        check(w.daemon.cgroup_parent in groups, groups)
        check_equal(open(f"/proc/{host_pid}/status").read().split("Uid:")[1].split()[0], str(BASE), "uid on the node")
        eater = w.container(pod, config, "eater", ["/bin/sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1"], linux=linux)
        check_equal(w.wait_exit(eater).reason, "OOMKilled", "a container over its limit")
        fixed = w.security(pid)
        fixed.security_context.readonly_rootfs = True
        container = w.container(pod, config, "fixed", linux=fixed)
        check(w.sh(container, "touch /x").exit_code != 0, "a read-only root file system")
        w.out(container, "cat /etc/hosts")
        if shared:
            check("crisp-init" in w.out(container, "cat /proc/1/comm"), "the pod's init")
        w.client.StopContainer(container_id=container, timeout=0)
        check_equal(w.wait_exit(container).exit_code, 137, "exit code")
    # What an unprivileged user of the node must not reach (S50).
    state = w.daemon.settings["state_dir"]
    check_equal(stat.S_IMODE(os.stat(f"{state}/containers/{container}").st_mode), 0o710, "mode of a bundle")
    w.finish()


def test_userns_runc(node):
    life_in_userns(node, "runc")


def test_userns_crun(node):
    life_in_userns(node, "crun")


def test_userns_native(node):
    life_in_userns(node, "native")


def with_the_nodes_network(node, handler):
    """KEP-5607: a user namespace of its own and the node's network."""
    w = World(node, handler)
    config = w.daemon.pod_config("node")
    options = config.linux.security_context.namespace_options
    options.userns_options.CopyFrom(userns(w.pb))
    options.network, options.pid = w.pb.NODE, w.pb.CONTAINER
    pod = w.client.RunPodSandbox(config=config).pod_sandbox_id
    linux = w.security(w.pb.CONTAINER)
    linux.security_context.namespace_options.network = w.pb.NODE
    container = w.container(pod, config, linux=linux)
    check_equal(w.out(container, "cat /proc/self/uid_map").split(), ["0", str(BASE), str(SIZE)], "uid_map")
    check_equal(w.out(container, "readlink /proc/self/ns/net"), os.readlink("/proc/self/ns/net"), "network namespace")
    check_equal(sorted(w.out(container, "ls /sys/class/net").split()), sorted(os.listdir("/sys/class/net")), "devices in /sys")
    check(w.sh(container, "touch /sys/x; echo 1 > /sys/kernel/mm/ksm/run").exit_code != 0, "/sys can be written")
    check(w.sh(container, "ip link add dummy9 type dummy; ip link set lo mtu 1400").exit_code != 0, "the node's network can be changed")
    # What is mounted below is as read-only as /sys itself.
    lines = [line.split() for line in w.out(container, "cat /proc/self/mountinfo").splitlines()]
    with open("/proc/self/mountinfo") as f:
        nodes = {line.split()[2] for line in f if line.split()[4].startswith("/sys")}
    writable = [line[4] for line in lines if line[4].startswith("/sys") and line[2] in nodes and "ro" not in line[5].split(",")]
    check_equal(writable, [], "mounts of the node's below /sys that can be written")
    check_equal(os.path.exists("/sys/x"), False, "a file in the node's /sys")
    w.finish()


def test_userns_with_the_nodes_network_runc(node):
    with_the_nodes_network(node, "runc")


def test_userns_with_the_nodes_network_crun(node):
    with_the_nodes_network(node, "crun")


def test_userns_with_the_nodes_network_native(node):
    with_the_nodes_network(node, "native")


def users_and_restart(node, handler):
    """Other users, a terminal, VOLUMEs of the image, an exec, and a crispd that comes back."""
    w = World(node, handler)
    files = harness.busybox_files({"/vol/of-nobody": b"v"})
    image = harness.Image([harness.layer_tar(files)], Cmd=["/bin/sh"], Env=["PATH=/bin"], Volumes={"/vol": {}})
    w.image = w.client.PullImage(image=w.pb.ImageSpec(image=node.registry.push(image, "volumes"))).image_ref
    pod, config = w.userns_pod()
    container = w.container(pod, config, linux=w.security(run_as_user=1000, run_as_group=1000), tty=True)
    check_equal(w.out(container, "id -u; id -g; stat -c %u /vol/of-nobody").split(), ["1000", "1000", "0"], "ids")
    root = w.container(pod, config, "root", linux=w.security())
    w.out(root, "echo x > /vol/new; mknod /tmp/null c 1 3 2>/dev/null && exit 1; echo y > /dev/null")
    w.restart()
    again = w.container(pod, config, "again", linux=w.security())
    check_equal(w.out(again, "cat /proc/self/uid_map").split(), ["0", str(BASE), str(SIZE)], "uid_map after a restart")
    w.finish()


def test_users_and_restart_runc(node):
    users_and_restart(node, "runc")


def test_users_and_restart_crun(node):
    users_and_restart(node, "crun")


def test_users_and_restart_native(node):
    users_and_restart(node, "native")


def test_bad_user_namespaces(node):
    w = World(node, "runc")
    pb = w.pb

    def refused(change, field, code="INVALID_ARGUMENT"):
        config = w.daemon.pod_config("bad")
        options = config.linux.security_context.namespace_options
        options.userns_options.CopyFrom(userns(pb))
        change(config, options)
        check_error(lambda: w.client.RunPodSandbox(config=config), code, field)

    def uids(*maps):
        def change(_, options):
            del options.userns_options.uids[:]
            options.userns_options.uids.extend(maps)
        return change

    refused(uids(), "uids")
    refused(uids(mapping(pb, length=0)), "uids")
    refused(uids(mapping(pb), mapping(pb, host=300000)), "overlap")
    refused(uids(mapping(pb, container=1)), "not mapped")
    refused(uids(mapping(pb, host=0)), "root")
    refused(uids(mapping(pb, host=4294967000)), "uids")
    refused(uids(*[mapping(pb, 1000000 + i * 10, i * 10, 5) for i in range(400)]), "uids")
    refused(lambda c, o: setattr(o, "pid", pb.NODE), "PID")
    refused(lambda c, o: setattr(o, "ipc", pb.NODE), "IPC")
    refused(lambda c, o: setattr(c.linux.security_context, "privileged", True), "privileged")
    refused(lambda c, o: setattr(o.userns_options, "mode", pb.CONTAINER), "mode")
    pod, config = w.userns_pod()
    linux = w.security()
    linux.security_context.namespace_options.userns_options.uids[0].host_id = 500000
    check_error(lambda: w.container(pod, config, linux=linux), "INVALID_ARGUMENT", "other mappings")
    check_error(lambda: w.container(pod, config, linux=w.security(run_as_user=70000)), "INVALID_ARGUMENT", "user 70000")
    shared = pb.Mount(container_path="/x", host_path=node.dir, propagation=pb.PROPAGATION_BIDIRECTIONAL)
    check_error(lambda: w.container(pod, config, linux=w.security(), mounts=[shared]), "INVALID_ARGUMENT", "")
    bad = pb.Mount(container_path="/x", host_path=node.dir, uidMappings=[mapping(pb), mapping(pb)], gidMappings=[mapping(pb)])
    check_error(lambda: w.container(pod, config, linux=w.security(), mounts=[bad]), "INVALID_ARGUMENT", "uidMappings")
    proc = pb.Mount(container_path="/x", host_path="/proc/self", uidMappings=[mapping(pb)], gidMappings=[mapping(pb)])
    check_error(lambda: w.container(pod, config, linux=w.security(), mounts=[proc]), "UNIMPLEMENTED", "/x")
    features = {h.name: h.features for h in w.client.Status().runtime_handlers}
    check(all(features[name].user_namespaces for name in ("native", "runc", "crun")), "features")
    w.finish()


def image_volumes(node, handler):
    w = World(node, handler)
    pb = w.pb
    layers = [harness.layer_tar({"/models/a": b"one", "/models/tool": (0o755, b"#!/bin/sh\necho ran\n"), "/old": b"x",
                                 "/up": ("link", "../../../../etc"), "/abs": ("link", "/models")}),
              harness.layer_tar({"/models/b": b"two", "/.wh.old": b""})]
    volume = harness.Image(layers)
    reference = node.registry.push(volume, "models")
    ref = w.client.PullImage(image=pb.ImageSpec(image=reference, runtime_handler=handler)).image_ref

    def mount(sub_path="", readonly=True, **more):
        return pb.Mount(container_path="/mnt", readonly=readonly, image_sub_path=sub_path,
                        image=pb.ImageSpec(image=ref, user_specified_image=reference), **more)

    for name in ("node", "userns"):
        pod, config = w.pod(name) if name == "node" else w.userns_pod(name)
        more = {} if name == "node" else {"linux": w.security()}
        container = w.container(pod, config, mounts=[mount()], **more)
        check_equal(w.out(container, "cat /mnt/models/a /mnt/models/b; stat -c %u /mnt/models/a"), "onetwo0", "content")
        check_equal(w.out(container, "/mnt/models/tool"), "ran", "programs run")
        check_equal(w.sh(container, "ls /mnt/old").exit_code, 1, "a whiteout")
        check(b"Read-only" in w.sh(container, "touch /mnt/x").stderr, "read-only")
        check(w.sh(container, "mount -o remount,rw /mnt").exit_code != 0, "stays read-only")
        seen = w.status(container).mounts[0].image
        check_equal((seen.image, seen.user_specified_image, seen.image_ref), (ref, reference, volume.id), "status")
        for sub_path, script, wanted in [("models", "cat /mnt/b", "two"), ("abs", "cat /mnt/a", "one"), ("models/a", "cat /mnt", "one")]:
            part = w.container(pod, config, "part-" + sub_path.replace("/", "-"), mounts=[mount(sub_path)], **more)
            check_equal(w.out(part, script), wanted, sub_path)
    for sub_path in ("none", "up", "models/a/x"):
        def create(sub_path=sub_path):
            w.container(pod, config, "bad", mounts=[mount(sub_path)], linux=w.security())
        check_error(create, "NOT_FOUND", "ImageVolumeMountFailed: ")
        check_starts(create, "ImageVolumeMountFailed")
    check_error(lambda: w.container(pod, config, "bad", mounts=[mount("../x")]), "INVALID_ARGUMENT", "image_sub_path")
    check_error(lambda: w.container(pod, config, "bad", mounts=[mount(readonly=False)]), "INVALID_ARGUMENT", "readonly")
    unknown = pb.Mount(container_path="/mnt", readonly=True, image=pb.ImageSpec(image="sha256:" + "0" * 64))
    check_starts(lambda: w.container(pod, config, "bad", mounts=[unknown], linux=w.security()), "ImageVolumeMountFailed")
    # The image goes; what is mounted stays, also for the next restart of crispd.
    w.client.RemoveImage(image=pb.ImageSpec(image=ref))
    w.restart()
    check_equal(w.out(container, "cat /mnt/models/a"), "one", "content after the image was removed")
    w.finish()
    check_equal(len(os.listdir(f"{w.daemon.dir}/root/images/layers")), 1, "layers that are left")


def check_starts(call, prefix):
    import grpc
    try:
        call()
    except grpc.RpcError as error:
        check(error.details().startswith(prefix), f"{error.details()!r} does not begin with {prefix!r}")
        return
    raise AssertionError("no error")


def test_image_volumes_runc(node):
    image_volumes(node, "runc")


def test_image_volumes_crun(node):
    image_volumes(node, "crun")


def test_image_volumes_native(node):
    image_volumes(node, "native")


class Artifact:
    """A manifest whose blobs are files, as oras pushes them."""

    def __init__(self, files, kind="application/vnd.example.model"):
        self.config = b"{}"
        self.layers = [data for _, data in files]
        entries = []
        for title, data in files:
            entry = {"mediaType": "application/octet-stream", "size": len(data), "digest": harness.sha256(data)}
            if title is not None:
                entry["annotations"] = {"org.opencontainers.image.title": title}
            entries.append(entry)
        self.manifest = json.dumps({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": kind,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2, "digest": harness.sha256(b"{}")},
            "layers": entries}).encode()
        self.digest = harness.sha256(self.manifest)


def test_artifacts(node):
    w = World(node, "native")
    pb = w.pb
    artifact = Artifact([("model.bin", b"weights" * 100000), ("read me.txt", b"hello"), (None, b"untitled")])
    reference = node.registry.push(artifact, "model")
    ref = w.client.PullImage(image=pb.ImageSpec(image=reference)).image_ref
    check_equal(w.client.PullImage(image=pb.ImageSpec(image=reference)).image_ref, ref, "a second pull")
    listed = [i for i in w.client.ListImages().images if i.id == ref]
    check_equal([list(i.repo_tags) for i in listed], [[reference]], "list")
    check_equal(list(listed[0].repo_digests), [f"{reference.rsplit(':', 1)[0]}@{artifact.digest}"], "digest")
    pod, config = w.pod()
    mount = pb.Mount(container_path="/model", readonly=True, image=pb.ImageSpec(image=ref))
    container = w.container(pod, config, mounts=[mount])
    check_equal(w.out(container, "wc -c < /model/model.bin; cat '/model/read me.txt'; echo; ls /model | wc -l").split(),
                ["700000", "hello", "3"], "files")
    check(b"Read-only" in w.sh(container, "rm /model/model.bin").stderr, "read-only")
    one = pb.Mount(container_path="/one", readonly=True, image=pb.ImageSpec(image=ref), image_sub_path="read me.txt")
    check_equal(w.out(w.container(pod, config, "one", mounts=[one]), "cat /one"), "hello", "one file")
    run = w.cri.container_config("run", ref, ["/model.bin"])
    check_error(lambda: w.client.CreateContainer(pod_sandbox_id=pod, config=run, sandbox_config=config),
                "FAILED_PRECONDITION", "is an artifact")
    for titles in (["../x"], ["/etc/x"], ["a/b"], [".."], ["same", "same"], ["x\ny"]):
        bad = Artifact([(title, title.encode() + bytes([i])) for i, title in enumerate(titles)])
        check_error(lambda bad=bad: w.client.PullImage(image=pb.ImageSpec(image=node.registry.push(bad, "bad"))),
                    "INVALID_ARGUMENT", "title")
    w.restart()
    check(w.client.ImageStatus(image=pb.ImageSpec(image=reference)).image.id == ref, "still there after a restart")
    w.client.RemoveImage(image=pb.ImageSpec(image=reference))
    check_equal([i for i in w.client.ListImages().images if i.id == ref], [], "removed")
    w.finish()


def mounted_below(directory):
    return [line for line in open("/proc/self/mountinfo") if line.split()[4].startswith(directory + "/")]


def test_mounts_go_both_ways(node):
    """A bidirectional mount: what the container mounts below it the node sees, and the reverse."""
    w = World(node, "native")
    for handler in ("native", "runc", "crun"):
        pb, shared = w.pb, f"{node.dir}/shared-{handler}"
        os.makedirs(f"{shared}/from-node")
        subprocess.run(["mount", "--bind", shared, shared], check=True)
        subprocess.run(["mount", "--make-rshared", shared], check=True)
        config = w.daemon.pod_config(f"both-{handler}")
        config.linux.security_context.privileged = True
        pod = w.client.RunPodSandbox(config=config, runtime_handler=handler).pod_sandbox_id
        container = w.container(pod, config, mounts=[
            pb.Mount(container_path="/m", host_path=shared, propagation=pb.PROPAGATION_BIDIRECTIONAL)],
            linux=pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(privileged=True)))
        reply = w.client.ExecSync(container_id=container, cmd=["sh", "-c", "mkdir /m/x && mount -t tmpfs t /m/x"])
        check_equal(reply.exit_code, 0, reply.stderr)
        check_equal(len(mounted_below(shared)), 1, f"mounts of the container on the node, {handler}")
        subprocess.run(["mount", "-t", "tmpfs", "t", f"{shared}/from-node"], check=True)
        reply = w.client.ExecSync(container_id=container, cmd=["grep", "-c", "/m/from-node", "/proc/self/mountinfo"])
        check_equal(reply.stdout, b"1\n", f"mounts of the node in the container, {handler}")
        w.client.StopPodSandbox(pod_sandbox_id=pod)
        w.client.RemovePodSandbox(pod_sandbox_id=pod)
        subprocess.run(["umount", "-R", "-l", shared], check=True)
    w.finish()


def mount_options(node, handler):
    w = World(node, handler)
    pb = w.pb
    data = f"{node.dir}/data"
    os.makedirs(data)
    with open(f"{data}/tool", "w") as f:
        f.write("#!/bin/sh\necho ran\n")
    os.chmod(f"{data}/tool", 0o755)
    pod, config = w.pod()

    def mount(*options, **more):
        return pb.Mount(container_path="/data", host_path=data, mount_options=options, **more)

    container = w.container(pod, config, "restricted", mounts=[mount("noexec", "nosuid", "nodev", "noatime")])
    flags = w.out(container, "grep ' /data ' /proc/self/mounts").split()[3].split(",")
    check({"noexec", "nosuid", "nodev", "noatime", "rw"} <= set(flags), f"flags {flags}")
    check(w.sh(container, "/data/tool").exit_code == 126, "noexec")
    both = w.container(pod, config, "both", mounts=[mount("noexec", readonly=True, recursive_read_only=True)])
    flags = w.out(both, "grep ' /data ' /proc/self/mounts").split()[3].split(",")
    check({"noexec", "ro"} <= set(flags), f"flags {flags}")
    for bad in ("exec", "suid", "rw", "size=1k", "remount", "", "lowerdir=/"):
        check_error(lambda bad=bad: w.container(pod, config, "bad", mounts=[mount(bad)]), "INVALID_ARGUMENT", "mount_options")
    check(w.client.Status().features.mount_options, "feature")
    w.finish()


def test_mount_options_runc(node):
    mount_options(node, "runc")


def test_mount_options_crun(node):
    mount_options(node, "crun")


def test_mount_options_native(node):
    mount_options(node, "native")


def test_security_modules_that_the_node_lacks(node):
    w = World(node, "native")
    pod, config = w.pod()
    if os.path.exists("/sys/kernel/security/apparmor") or os.path.exists("/sys/fs/selinux/enforce"):
        raise harness.Skip("this node has them")
    linux = w.pb.LinuxContainerConfig()
    linux.security_context.apparmor.profile_type = w.pb.SecurityProfile.Localhost
    linux.security_context.apparmor.localhost_ref = "mine"
    check_error(lambda: w.container(pod, config, linux=linux), "FAILED_PRECONDITION", "no AppArmor")
    linux = w.pb.LinuxContainerConfig()
    linux.security_context.selinux_options.type = "container_t"
    data = f"{node.dir}/data"
    os.makedirs(data)
    mount = w.pb.Mount(container_path="/data", host_path=data, selinux_relabel=True)
    container = w.container(pod, config, linux=linux, mounts=[mount])
    check_equal(w.out(container, "ls /data"), "", "a container with labels that this node does not have")
    w.finish()


harness.main()

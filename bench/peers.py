"""Peers to measure beside crisp, started on a test node (tests/harness.py) with directories of their own.

Debian's containerd is always one. Others are given by path in the environment:
  CRISP_BENCH_CONTAINERD   another containerd, with containerd-shim-runc-v2 beside it
  CRISP_BENCH_CRIO         crio, with pinns beside it, and conmon beside it or on PATH
"""
import functools
import json
import os
import shutil

import harness


def measured():
    """{name: how to start it on a node with an OCI runtime}"""
    peers = {"containerd": Containerd}
    if "CRISP_BENCH_CONTAINERD" in os.environ:
        binary = os.environ["CRISP_BENCH_CONTAINERD"]
        version = harness.run(binary, "--version").split()[2].removeprefix("v").split(".")
        peers["containerd" + ".".join(version[:2])] = functools.partial(Containerd, binary=binary)
    if "CRISP_BENCH_CRIO" in os.environ:
        peers["cri-o"] = functools.partial(Crio, binary=os.environ["CRISP_BENCH_CRIO"])
    return peers


class Peer:
    """A runtime with its own directory and bridge network by the reference CNI plugins; `_launch` starts it."""

    def __init__(self, node, kind, runtime):
        self.node, self.runtime = node, runtime
        self.dir = f"{node.dir}/{kind}-{runtime}"
        self.socket = f"{self.dir}/peer.sock"
        self.endpoint = f"unix://{self.socket}"
        for sub in ("cni", "state"):
            os.makedirs(f"{self.dir}/{sub}")
        harness.run("mount", "-t", "tmpfs", "-o", "mode=755", "run", f"{self.dir}/state")
        pause = harness.Image([harness.layer_tar(harness.busybox_files())], Cmd=["/bin/sleep", "1000000"], Env=["PATH=/bin"],
                              StopSignal="SIGKILL")  # pid 1 that waits for nothing ignores SIGTERM, a real pause does not
        self.pause = node.registry.push(pause, f"pause-{runtime}", "3")
        self._write("cni/10-bench.conflist", json.dumps({"cniVersion": "1.0.0", "name": f"bench-{kind}-{runtime}", "plugins": [
            {"type": "bridge", "bridge": f"{kind}{runtime}0", "isGateway": True, "ipMasq": True, "hairpinMode": True,
             "ipam": {"type": "host-local", "dataDir": f"{self.dir}/networks",
                      "ranges": [[{"subnet": "10.92.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "portmap", "capabilities": {"portMappings": True}}]}))

    def _write(self, name, text, mode=0o644):
        path = f"{self.dir}/{name}"
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def _launch(self, *command, env=None):
        import cri
        with open(f"{self.dir}/log", "wb") as log:
            self.process = self.node.start(*command, stdout=log, stderr=log, env=env)
        harness.eventually(lambda: os.path.exists(self.socket) or self.process.poll() is not None, "the peer's socket")
        if self.process.poll() is not None:
            with open(f"{self.dir}/log", errors="replace") as log:
                raise AssertionError(f"{command[0]} ended: {log.read()[-2000:]}")
        self.client = cri.Client(self.endpoint, default_timeout=600)
        harness.eventually(self._ready, f"{command[0]} is ready")

    def _ready(self):  # conditions of a runtime's own may warn only
        return all(c.status for c in self.client.Status().status.conditions if c.type in ("RuntimeReady", "NetworkReady"))

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Containerd(Peer):
    def __init__(self, node, runtime, binary="containerd"):
        super().__init__(node, "ctd" + ("" if binary == "containerd" else "2"), runtime)
        config = self._write("config.toml", f'''version = 2
root = "{self.dir}/root"
state = "{self.dir}/state"
[grpc]
  address = "{self.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{self.pause}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{self.dir}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{shutil.which(runtime)}"
[plugins."io.containerd.nri.v1.nri"]
  socket_path = "{self.dir}/nri.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{self.dir}/opt"
''')
        binary = os.path.realpath(shutil.which(binary))  # it looks for its shim on PATH
        self._launch(binary, "--config", config, env={"PATH": f"{os.path.dirname(binary)}:{os.environ['PATH']}"})


class Crio(Peer):
    def __init__(self, node, runtime, binary):
        super().__init__(node, "crio", runtime)
        beside = os.path.dirname(os.path.realpath(binary))
        conmon = shutil.which("conmon", path=f"{beside}:{os.environ['PATH']}")
        policy = self._write("policy.json", '{"default": [{"type": "insecureAcceptAnything"}]}')
        registries = self._write("registries.conf",
                                 f'[[registry]]\nlocation = "{node.registry.host}"\ninsecure = true\n')
        storage = self._write("storage.conf", f'[storage]\ndriver = "overlay"\ngraphroot = "{self.dir}/root"\n'
                                              f'runroot = "{self.dir}/state/storage"\n')
        for sub in ("conf.d", "hooks", "registries.d", "policies", "nri"):
            os.makedirs(f"{self.dir}/{sub}")
        config = self._write("crio.conf", f'''[crio]
root = "{self.dir}/root"
runroot = "{self.dir}/state/storage"
storage_driver = "overlay"
log_dir = "{self.dir}/logs"
version_file = "{self.dir}/version"
version_file_persist = "{self.dir}/version-persist"
clean_shutdown_file = "{self.dir}/clean.shutdown"
[crio.api]
listen = "{self.socket}"
[crio.runtime]
cgroup_manager = "cgroupfs"
conmon_cgroup = "pod"
default_runtime = "{runtime}"
pinns_path = "{beside}/pinns"
namespaces_dir = "{self.dir}/state/ns"
container_exits_dir = "{self.dir}/state/exits"
container_attach_socket_dir = "{self.dir}/state/attach"
hooks_dir = ["{self.dir}/hooks"]
irqbalance_config_restore_file = "disable"
[crio.runtime.runtimes.{runtime}]
runtime_path = "{self._oci_runtime()}"
runtime_type = "oci"
runtime_root = "{self.dir}/state/oci"
monitor_path = "{conmon}"
monitor_cgroup = "pod"
[crio.image]
pause_image = "{self.pause}"
pause_command = ""
signature_policy = "{policy}"
signature_policy_dir = "{self.dir}/policies"
short_name_mode = "disabled"
[crio.network]
network_dir = "{self.dir}/cni"
plugin_dirs = ["/usr/lib/cni"]
[crio.nri]
nri_listen = "{self.dir}/nri.sock"
nri_plugin_dir = "{self.dir}/nri"
nri_plugin_config_dir = "{self.dir}/nri"
''')
        self._launch(binary, "--config", config, "--config-dir", f"{self.dir}/conf.d", "--registries-conf", registries,
                     "--registries-conf-dir", f"{self.dir}/registries.d",
                     env={"CONTAINERS_STORAGE_CONF": storage, "PATH": f"{beside}:{os.environ['PATH']}"})

    def _oci_runtime(self):
        """The OCI runtime; behind a script where nobody has CAP_SYS_RESOURCE and so nothing may get the score of -998 that
        CRI-O gives to what holds a pod's shared process namespace. The script costs a dash, and a sed for each create."""
        program = shutil.which(self.runtime)
        with open("/proc/self/status") as status:
            capabilities = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff"))
        if capabilities >> 24 & 1:
            return program
        return self._write("oci-runtime", f'''#!/bin/sh
for a in "$@"; do
  [ "$previous" = --bundle ] && sed -i 's/"oomScoreAdj": *-[0-9]*/"oomScoreAdj":0/' "$a/config.json"
  previous=$a
done
exec {program} "$@"
''', 0o755)

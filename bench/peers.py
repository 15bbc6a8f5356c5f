"""Peers to measure beside crisp, started on a test node (tests/harness.py) with directories of their own."""
import json
import os
import shutil

import harness


class Containerd:
    """Debian's containerd with the given OCI runtime, its own bridge network by the reference CNI plugins, and a pause
    image from the node's registry."""

    def __init__(self, node, runtime):
        import cri
        self.dir = f"{node.dir}/ctd-{runtime}"
        self.socket = f"{self.dir}/containerd.sock"
        self.endpoint = f"unix://{self.socket}"
        os.makedirs(f"{self.dir}/cni")
        os.makedirs(f"{self.dir}/state")
        harness.run("mount", "-t", "tmpfs", "-o", "mode=755", "run", f"{self.dir}/state")
        pause = harness.Image([harness.layer_tar(harness.busybox_files())], Cmd=["/bin/sleep", "1000000"], Env=["PATH=/bin"])
        self._write_config(runtime, node.registry.push(pause, f"pause-{runtime}", "3"))
        with open(f"{self.dir}/log", "wb") as log:
            self.process = node.start("containerd", "--config", f"{self.dir}/config.toml", stdout=log, stderr=log)
        harness.eventually(lambda: os.path.exists(self.socket), "containerd's socket")
        self.client = cri.Client(self.endpoint, default_timeout=600)
        harness.eventually(lambda: all(c.status for c in self.client.Status().status.conditions), "containerd is ready")

    def _write_config(self, runtime, pause):
        with open(f"{self.dir}/cni/10-bench.conflist", "w") as f:
            json.dump({"cniVersion": "1.0.0", "name": f"bench-{runtime}", "plugins": [
                {"type": "bridge", "bridge": f"ct{runtime}0", "isGateway": True, "ipMasq": True, "hairpinMode": True,
                 "ipam": {"type": "host-local", "dataDir": f"{self.dir}/networks",
                          "ranges": [[{"subnet": "10.92.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
                {"type": "portmap", "capabilities": {"portMappings": True}}]}, f)
        with open(f"{self.dir}/config.toml", "w") as f:
            f.write(f'''version = 2
root = "{self.dir}/root"
state = "{self.dir}/state"
[grpc]
  address = "{self.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{self.dir}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{shutil.which(runtime)}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{self.dir}/opt"
''')

    def stop(self):
        self.process.terminate()
        self.process.wait()

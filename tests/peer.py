"""A runtime to compare crisp with: Debian's containerd on a test node, with the words of harness.Crispd that tests use."""
import os
import sys

import harness

sys.path.insert(0, f"{harness.ROOT}/bench")


class Containerd:
    name = "containerd"

    def __init__(self, node, runtime="runc"):
        import peers
        if harness.shutil.which("containerd") is None or not os.path.isdir("/usr/lib/cni"):
            raise harness.Skip("containerd and CNI's plugins are not installed")
        self.peer = peers.Containerd(node, runtime)
        self.dir, self.endpoint, self.client = self.peer.dir, self.peer.endpoint, self.peer.client
        self.cgroup_parent = f"/crisp-test-{node.id}"

    def stop(self):
        self.client.close()
        self.peer.stop()


class Crisp:
    name = "crisp"

    def __init__(self, node, **options):
        self.daemon = node.crispd(**options)
        self.dir, self.endpoint, self.cgroup_parent = self.daemon.dir, self.daemon.endpoint, self.daemon.cgroup_parent
        self.client = self.daemon.client()

    def stop(self):
        self.daemon.check_clean()
        harness.check_equal(self.daemon.stop(), 0, "exit code of crispd")

"""A node with crispd and an image, for tests of pods and containers."""
import harness

from harness import check_equal, eventually


class World:
    """crispd with an image pulled, and short words for what tests do all the time."""

    def __init__(self, node, handler="native", **options):
        import cri
        self.cri, self.pb = cri, cri.pb
        self.daemon = node.crispd(settings={"runtime.default_handler": handler, **options.pop("settings", {})}, **options)
        self.client = self.daemon.client()
        self.reference = node.registry.push(harness.busybox_image(), "busybox")
        self.image = self.client.PullImage(image=self.pb.ImageSpec(image=self.reference)).image_ref

    def pod(self, name="pod", **more):
        config = self.daemon.pod_config(name, **more)
        return self.client.RunPodSandbox(config=config).pod_sandbox_id, config

    def container(self, pod, config, name="main", command=("/bin/sleep", "1000"), start=True, **more):
        container = self.client.CreateContainer(
            pod_sandbox_id=pod, sandbox_config=config,
            config=self.cri.container_config(name, self.image, command, **more)).container_id
        if start:
            self.client.StartContainer(container_id=container)
        return container

    def status(self, container):
        return self.client.ContainerStatus(container_id=container).status

    def wait_exit(self, container):
        return eventually(lambda: (s := self.status(container)).state == self.pb.CONTAINER_EXITED and s,
                          "the container exits")

    def sh(self, container, script, **more):
        return self.client.ExecSync(container_id=container, cmd=["/bin/sh", "-c", script], **more)

    def finish(self):
        self.daemon.remove_all(self.client)
        self.daemon.check_clean()
        check_equal(self.daemon.stop(), 0, "exit code of crispd")

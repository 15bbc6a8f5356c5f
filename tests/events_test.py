"""GetContainerEvents, as a kubelet would read it."""
import harness
import queue
import threading

from harness import check, check_equal, eventually

from world import World


class Events:
    """The events of one stream, as they come, and how it ended."""

    def __init__(self, client):
        self.stream = client.GetContainerEvents(timeout=600)
        self.stream.initial_metadata()  # from here on nothing is missed
        self.queue = queue.Queue()
        self.ended = None
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            for event in self.stream:
                self.queue.put(event)
        except Exception as error:
            self.ended = error.code().name

    def take(self, count):
        return [self.queue.get(timeout=60) for _ in range(count)]


def whole_life(node, handler):
    w = World(node, handler)
    old_pod, _ = w.pod("old")
    streams = [Events(w.client) for _ in range(3)]
    pod, config = w.pod()
    main = w.container(pod, config)
    short = w.container(pod, config, "short", ["/bin/true"])
    w.wait_exit(short)
    w.client.StopContainer(container_id=main, timeout=0)
    w.client.RemoveContainer(container_id=main)
    w.client.StopPodSandbox(pod_sandbox_id=pod)
    w.client.RemovePodSandbox(pod_sandbox_id=pod)
    names = {w.pb.CONTAINER_CREATED_EVENT: "C", w.pb.CONTAINER_STARTED_EVENT: "S", w.pb.CONTAINER_STOPPED_EVENT: "X",
             w.pb.CONTAINER_DELETED_EVENT: "D"}
    told = [stream.take(12) for stream in streams]
    for events in told:
        for thing in (pod, main, short):
            check_equal("".join(names[e.container_event_type] for e in events if e.container_id == thing), "CSXD", "order")
        check_equal([e.SerializeToString(deterministic=True) for e in events],
                    [e.SerializeToString(deterministic=True) for e in told[0]], "all are told the same")
    for event in told[0]:
        check_equal(event.pod_sandbox_status.id, pod, "the pod of each event")
        check(event.pod_sandbox_status.metadata.uid, "the uid that the kubelet goes by")
        shown = {c.id: c.state for c in event.containers_statuses}
        if event.container_event_type == w.pb.CONTAINER_STOPPED_EVENT and event.container_id != pod:
            check_equal(shown[event.container_id], w.pb.CONTAINER_EXITED, "the snapshot holds what the event tells")
    stamps = [e.created_at for e in told[0]]
    check_equal(stamps, sorted(set(stamps)), "times grow")
    status = w.client.PodSandboxStatus(pod_sandbox_id=old_pod)
    check(status.timestamp > stamps[-1], "a later status is newer than the last event")
    check(all(s.queue.empty() for s in streams), "nothing more")
    # A stop says so, and a new crispd repeats nothing.
    w.daemon.stop()
    eventually(lambda: all(s.ended == "UNAVAILABLE" for s in streams), "the streams end")
    w.daemon.start()
    w.client = w.daemon.client()
    after = Events(w.client)
    w.client.StopPodSandbox(pod_sandbox_id=old_pod)
    (event,) = after.take(1)
    check_equal((event.container_id, names[event.container_event_type]), (old_pod, "X"), "the first event afterwards")
    w.finish()


def test_a_whole_life_with_runc(node):
    whole_life(node, "runc")


def test_a_whole_life_with_crun(node):
    whole_life(node, "crun")


def test_a_whole_life_with_native(node):
    whole_life(node, "native")


def test_a_killed_shim_is_told(node):
    import json
    import os
    import signal
    w = World(node)
    pod, config = w.pod()
    container = w.container(pod, config)
    events = Events(w.client)
    info = json.loads(w.client.PodSandboxStatus(pod_sandbox_id=pod, verbose=True).info["info"])
    os.kill(info["pid"], signal.SIGKILL)
    told = events.take(2)
    check_equal({(e.container_id, e.container_event_type) for e in told},
                {(pod, w.pb.CONTAINER_STOPPED_EVENT), (container, w.pb.CONTAINER_STOPPED_EVENT)}, "both have stopped")
    w.finish()


if __name__ == "__main__":
    harness.main()

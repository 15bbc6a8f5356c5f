#!/usr/bin/python3
"""Exec, attach and port-forward with streams, against real containers: by a WebSocket client of our own, and by
Kubernetes' own client library (tests/clientgo) where Go 1.24 is there to build it.

CRISP_STREAM_MIB is how much goes through an exec's stdin (500), CRISP_STREAM_ABORTS how many connections are aborted (10000)."""
import contextlib
import harness
import hashlib
import io
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import tarfile
import tempfile
import threading
import urllib.parse

from harness import Skip, check, check_equal, check_error, eventually
from world import World

CLIENTGO = f"{harness.ROOT}/tests/clientgo"
STDIN_MIB = int(os.environ.get("CRISP_STREAM_MIB", "500"))
ABORTS = int(os.environ.get("CRISP_STREAM_ABORTS", "10000"))
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255


# ---------------------------------------------------------------- clients

def build_clientgo():
    """(program, None), or (None, why not). Before the tests have a network of their own: Go may have to download."""
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        return None, "Go is not installed"
    version = re.search(r"go(\d+)\.(\d+)", subprocess.run([go, "version"], capture_output=True, text=True).stdout)
    if version is None or tuple(map(int, version.groups())) < (1, 24):
        return None, "Go is older than 1.24"
    environment = os.environ | {"GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false"}
    fetched = subprocess.run(["timeout", "120", go, "mod", "download"], cwd=CLIENTGO, env=environment, capture_output=True)
    if fetched.returncode != 0:
        return None, "the Go modules of tests/clientgo cannot be downloaded"
    program = f"{tempfile.mkdtemp(prefix='crisp-clientgo-')}/clientgo"
    built = subprocess.run([go, "build", "-o", program, "."], cwd=CLIENTGO, env=environment, capture_output=True, text=True)
    if built.returncode != 0:
        raise AssertionError(f"tests/clientgo does not build:\n{built.stderr}")
    return program, None


class ClientGo:
    program = why_not = None

    def __init__(self):
        if ClientGo.program is None:
            raise Skip(ClientGo.why_not or "needs root")

    def __call__(self, *arguments, stdin=b""):
        done = subprocess.run([self.program, *arguments], input=stdin, capture_output=True, timeout=300)
        return done.returncode, done.stdout, done.stderr


class WebSocket:
    """A client that knows no more than it needs: unmasked in effect, no extensions."""

    def __init__(self, url, protocol="v5.channel.k8s.io"):
        parts = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=120)
        self.socket.sendall(f"GET {parts.path}{'?' + parts.query if parts.query else ''} HTTP/1.1\r\nHost: x\r\n"
                            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n".encode())
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        while self.file.readline() not in (b"\r\n", b""):
            pass

    def send(self, channel, data=b"", opcode=2):
        payload = bytes([channel]) + data
        size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xff" + struct.pack(">Q", len(payload))
        self.socket.sendall(bytes([0x80 | opcode]) + size + bytes(4) + payload)

    def receive(self):
        """(channel, data), or None at the end."""
        while True:
            head = self.file.read(2)
            if len(head) < 2 or head[0] & 15 == 8:
                return None
            size = head[1] & 127
            size = struct.unpack(">H", self.file.read(2))[0] if size == 126 else \
                struct.unpack(">Q", self.file.read(8))[0] if size == 127 else size
            payload = self.file.read(size)
            if head[0] & 15 in (0, 1, 2):
                return payload[0], payload[1:]

    def receive_until(self, channel, text):
        seen = b""
        while text not in seen:
            message = self.receive()
            check(message is not None, f"the end came before {text!r}; seen: {seen!r}")
            if message[0] == channel:
                seen += message[1]
        return seen

    def receive_all(self):
        channels = {}
        while (message := self.receive()) is not None:
            channels[message[0]] = channels.get(message[0], b"") + message[1]
        return channels

    def close(self, reset=False):
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.file.close()
        self.socket.close()


def exec_url(w, container, *command, tty=False, stdin=True, stdout=True, stderr=None):
    return w.client.Exec(container_id=container, cmd=command, tty=tty, stdin=stdin, stdout=stdout,
                         stderr=not tty if stderr is None else stderr).url


def exit_code(status):
    status = json.loads(status)
    if status["status"] == "Success":
        return 0
    return int(status["details"]["causes"][0]["message"])


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def streaming_threads(pid):
    """How many threads the server has beside its loop; they go when they are idle for some seconds."""
    names = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError):
            names.append(open(f"/proc/{pid}/task/{task}/comm").read().strip())
    check("stream-loop" in names, f"threads: {names}")
    return names.count("stream")


# ---------------------------------------------------------------- our own client

def exec_and_attach(node, handler):
    w = World(node, handler)
    pod, config = w.pod()
    container = w.container(pod, config)

    s = WebSocket(exec_url(w, container, "/bin/sh", "-c", "echo err >&2; cat; exit 7"))
    s.send(STDIN, b"hello")
    s.send(CLOSE, bytes([STDIN]))
    channels = s.receive_all()
    check_equal((channels[STDOUT], channels[STDERR], exit_code(channels[ERROR])), (b"hello", b"err\n", 7), "exec")

    s = WebSocket(exec_url(w, container, "/bin/sh", tty=True))
    s.send(RESIZE, b'{"Width":123,"Height":45}')
    s.send(STDIN, b"stty size; exit 3\n")
    channels = s.receive_all()
    check(b"45 123" in channels[STDOUT], f"size of the terminal: {channels[STDOUT]!r}")
    check_equal(exit_code(channels[ERROR]), 3, "exit code of the shell")

    channels = WebSocket(exec_url(w, container, "/no/such/program", stdin=False)).receive_all()
    status = json.loads(channels[ERROR])
    check_equal(status["status"], "Failure", "status of what cannot be started")
    check("/no/such/program" in status["message"], status["message"])

    # A program that was left behind keeps the pipe, not the exec.
    channels = WebSocket(exec_url(w, container, "/bin/sh", "-c", "sleep 1000 & echo started", stdin=False)).receive_all()
    check_equal((channels[STDOUT], exit_code(channels[ERROR])), (b"started\n", 0), "exec with a daemon")

    # Its client goes: the exec is killed with all that it started.
    s = WebSocket(exec_url(w, container, "/bin/sh", "-c", "sleep 2345 & echo up; sleep 2345"))
    s.receive_until(STDOUT, b"up")
    s.close()
    eventually(lambda: b"2345" not in w.sh(container, "ps").stdout, "the processes of an aborted exec are gone")

    # What comes in over attach reaches the container, what it says reaches the client and the log.
    echo = w.container(pod, config, "echo", command=["/bin/sh", "-c", "while read line; do echo got $line; done; exit 5"],
                       stdin=True)
    s = WebSocket(w.client.Attach(container_id=echo, stdin=True, stdout=True, stderr=True).url)
    s.send(STDIN, b"one\n")
    s.receive_until(STDOUT, b"got one\n")
    s.close()
    s = WebSocket(w.client.Attach(container_id=echo, stdin=True, stdout=True, stderr=True).url)
    s.send(STDIN, b"two\n")
    s.receive_until(STDOUT, b"got two\n")
    w.client.StopContainer(container_id=echo, timeout=0)
    channels = s.receive_all()
    check_equal(json.loads(channels[ERROR])["status"], "Success", "status of an attach to the end")
    check(b"got two" in open(f"{config.log_directory}/echo.log", "rb").read(), "the log has it as well")

    check_error(lambda: w.client.Attach(container_id=echo, stdout=True), "FAILED_PRECONDITION")
    check_error(lambda: exec_url(w, echo, "true"), "FAILED_PRECONDITION")
    check_error(lambda: w.client.Exec(container_id=container, cmd=["true"]), "INVALID_ARGUMENT", "stdin")
    check_error(lambda: exec_url(w, container, "true", tty=True, stderr=True), "INVALID_ARGUMENT", "tty")
    check_error(lambda: w.client.PortForward(pod_sandbox_id="nobody"), "NOT_FOUND")
    w.finish()


def test_exec_and_attach_runc(node):
    exec_and_attach(node, "runc")


def test_exec_and_attach_crun(node):
    exec_and_attach(node, "crun")


def test_exec_and_attach_native(node):
    exec_and_attach(node, "native")


def test_stdin_is_never_cut(node):
    """The program has read everything and is gone at once: no byte is lost, and neither is the answer."""
    w = World(node)
    pod, config = w.pod()
    container = w.container(pod, config)
    piece = os.urandom(1 << 20)
    wanted = hashlib.sha256(piece * STDIN_MIB).hexdigest().encode()
    s = WebSocket(exec_url(w, container, "/bin/sha256sum"))
    for _ in range(STDIN_MIB):
        s.send(STDIN, piece)
    s.send(CLOSE, bytes([STDIN]))
    channels = s.receive_all()
    check_equal((channels[STDOUT].split()[0], exit_code(channels[ERROR])), (wanted, 0), "checksum")

    # It reads one byte only; the rest is thrown away, and the client sees the end, not a reset.
    s = WebSocket(exec_url(w, container, "/bin/head", "-c", "1"))
    sender = threading.Thread(target=lambda: [s.send(STDIN, piece) for _ in range(8)])
    sender.start()
    channels = s.receive_all()
    check_equal((channels[STDOUT], exit_code(channels[ERROR])), (piece[:1], 0), "head")
    sender.join()
    w.finish()


def test_port_forward(node):
    w = World(node)
    pod, config = w.pod()
    w.container(pod, config, "web", command=["/bin/sh", "-c", "echo welcome > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"])
    request = b"GET / HTTP/1.0\r\n\r\n"

    def ask():
        s = WebSocket(w.client.PortForward(pod_sandbox_id=pod).url + "?port=8080", "v4.channel.k8s.io")
        check_equal([s.receive(), s.receive()], [(0, b"\x90\x1f"), (1, b"\x90\x1f")], "ports")
        s.send(0, request)
        return s.receive_all()
    eventually(lambda: b"welcome" in ask().get(0, b""), "the web server answers")
    refused = WebSocket(w.client.PortForward(pod_sandbox_id=pod, port=[9]).url, "v4.channel.k8s.io").receive_all()
    check(b"refused" in refused[1], f"an error is told: {refused}")
    w.finish()


def test_s45_aborts_leave_nothing(node):
    w = World(node)
    pod, config = w.pod()
    container = w.container(pod, config)
    pid = w.daemon.process.pid

    def abort_execs(count):
        for i in range(count):
            s = WebSocket(exec_url(w, container, "/bin/cat", tty=i % 2 == 0))
            for width in range(1, 200):
                s.send(RESIZE, b'{"Width":%d,"Height":24}' % width)
            if i % 3 == 0:
                s.send(STDIN, b"x")
                s.receive_until(STDOUT, b"x")
            s.close(reset=i % 4 == 0)
    shim = next(p for p, text in node.processes() if "crisp-shim" in text and pod in text)
    abort_execs(5)
    eventually(lambda: b"cat" not in w.sh(container, "ps").stdout, "the first execs are gone")
    eventually(lambda: streaming_threads(pid) == 0, "the pool is idle", 60)
    before = descriptors(pid), descriptors(shim)
    abort_execs(40)
    port = urllib.parse.urlsplit(exec_url(w, container, "true")).port
    for i in range(ABORTS):
        if i % 4 == 0:
            s = WebSocket(w.client.PortForward(pod_sandbox_id=pod).url, "SPDY/3.1+portforward.k8s.io")
            check_equal(s.status, 101, "status")
            s.close(reset=i % 8 == 0)
            continue
        with socket.create_connection(("127.0.0.1", port)) as s:
            if i % 4 > 1:
                s.sendall(b"GET /exec/0123456789 HTTP/1.1\r\nHost: x\r\n\r\n"[:i % 60])
    eventually(lambda: b"cat" not in w.sh(container, "ps").stdout, "all execs are gone")
    eventually(lambda: descriptors(pid) <= before[0] and descriptors(shim) <= before[1],
               "descriptors are as before", 60)
    eventually(lambda: streaming_threads(pid) == 0, "threads are as before", 60)
    w.finish()


def test_s48_urls(node):
    w = World(node)
    pod, config = w.pod()
    container = w.container(pod, config)
    url = exec_url(w, container, "/bin/true", stdin=False)
    parts = urllib.parse.urlsplit(url)
    check_equal(parts.hostname, "127.0.0.1", "the server listens on loopback")
    check(len(parts.path.split("/")[-1]) >= 32, "at least 128 bits")
    check_equal(WebSocket(url.replace("/exec/", "/attach/")).status, 404, "another verb")
    check_equal(WebSocket(url[:-1]).status, 404, "a guess")
    check_equal(exit_code(WebSocket(url).receive_all()[ERROR]), 0, "exit code")
    check_equal(WebSocket(url).status, 404, "a second use")
    urls = [exec_url(w, container, "true") for _ in range(1000)]
    check_equal(len(set(urls)), 1000, "different URLs")
    check_error(lambda: exec_url(w, container, "true"), "RESOURCE_EXHAUSTED")
    w.finish()


# ---------------------------------------------------------------- Kubernetes' client

def client_go(node, handler, transport):
    go = ClientGo()
    w = World(node, handler)
    pod, config = w.pod()
    container = w.container(pod, config)

    code, out, err = go("exec", transport, exec_url(w, container, "/bin/sh", "-c", "echo err >&2; cat; exit 7"), "stdin",
                        stdin=b"hello")
    check_equal((code, out, err), (7, b"hello", b"err\n"), "exec")
    code, out, err = go("exec", transport, exec_url(w, container, "/bin/echo", "hi", stdin=False))
    check_equal((code, out, err), (0, b"hi\n", b""), "exec without stdin")
    code, out, err = go("exec", transport, exec_url(w, container, "/no/such/program", stdin=False))
    check(code == 125 and b"/no/such/program" in err, f"{code} {err!r}")

    script = b"until stty size | grep -q '30 100'; do sleep 0.1; done; stty size; exit 3\n"
    code, out, err = go("exec", transport, exec_url(w, container, "/bin/sh", tty=True), "tty", "stdin",
                        "sizes=80x24,100x30", stdin=script)
    check(code == 3 and b"30 100" in out, f"terminal: {code} {out!r} {err!r}")

    # kubectl cp in both directions.
    content, archive = os.urandom(3 << 20), io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("copied")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    code, out, err = go("exec", transport, exec_url(w, container, "/bin/tar", "xf", "-", "-C", "/tmp"), "stdin",
                        stdin=archive.getvalue())
    check_equal((code, err), (0, b""), "tar xf")
    code, out, err = go("exec", transport, exec_url(w, container, "/bin/tar", "cf", "-", "-C", "/tmp", "copied", stdin=False))
    check_equal((code, err), (0, b""), "tar cf")
    with tarfile.open(fileobj=io.BytesIO(out)) as tar:
        check(tar.extractfile("copied").read() == content, "the copy is the same")

    wanted = hashlib.sha256(bytes(STDIN_MIB << 20)).hexdigest()
    code, out, err = go("exec", transport, exec_url(w, container, "/bin/sha256sum"), "stdin", stdin=bytes(STDIN_MIB << 20))
    check_equal((code, out.decode().split()[:1], err), (0, [wanted], b""), "checksum")

    echo = w.container(pod, config, "echo", command=["/bin/sh", "-c", "read line; echo got $line; exit 5"], stdin=True)
    code, out, err = go("exec", transport, w.client.Attach(container_id=echo, stdin=True, stdout=True, stderr=True).url,
                        "stdin", stdin=b"one\n")
    check_equal((code, out), (0, b"got one\n"), "attach")

    w.container(pod, config, "web", command=["/bin/sh", "-c", "yes | head -c 300000 > /tmp/big; exec httpd -f -p 80 -h /tmp"])
    request = b"GET /big HTTP/1.0\r\n\r\n"

    def ask():
        code, out, err = go("port-forward", transport, w.client.PortForward(pod_sandbox_id=pod).url, "80", "8", stdin=request)
        return code == 0 and len(out.partition(b"\r\n\r\n")[2]) == 300000
    eventually(ask, "eight forwarded connections get the file", 60)
    w.finish()


def test_client_go_spdy_runc(node):
    client_go(node, "runc", "spdy")


def test_client_go_websocket_crun(node):
    client_go(node, "crun", "websocket")


def test_client_go_websocket_native(node):
    client_go(node, "native", "websocket")


if __name__ == "__main__":
    if os.geteuid() == 0:
        ClientGo.program, ClientGo.why_not = build_clientgo()
    try:
        harness.main()
    finally:
        if ClientGo.program is not None:
            shutil.rmtree(os.path.dirname(ClientGo.program))

"""crispctl as tests call it: with or without a terminal, and the files that it reads."""
import fcntl
import harness
import json
import os
import pty
import select
import struct
import subprocess
import termios

from harness import check


class Ctl:
    def __init__(self, daemon):
        self.program = [f"{harness.BUILD}/bin/crispctl", "-r", daemon.endpoint]

    def __call__(self, *arguments, code=0, text=None):
        done = subprocess.run([*self.program, *arguments], input=text, capture_output=True,
                              text=True, timeout=120)
        check(done.returncode == code, f"crispctl {' '.join(arguments)}: exit code {done.returncode}, wanted {code}\n"
                                       f"{done.stdout}{done.stderr}")
        self.errors = done.stderr
        return done.stdout

    def json(self, *arguments):
        return json.loads(self(*arguments, "-o", "json"))


def write(path, text):
    with open(path, "w") as f:
        f.write(text)
    return path


def pod_file(daemon, name="web"):
    os.makedirs(f"{daemon.dir}/logs/{name}", exist_ok=True)
    return write(f"{daemon.dir}/{name}.yaml", f"""
metadata: {{name: {name}, namespace: default, uid: uid-{name}}}
log_directory: {daemon.dir}/logs/{name}
linux: {{cgroup_parent: {daemon.cgroup_parent}}}
""")


def container_file(daemon, name, image, script):
    return write(f"{daemon.dir}/{name}-container.json", json.dumps({
        "metadata": {"name": name}, "image": {"image": image}, "command": ["/bin/sh", "-c", script],
        "log_path": f"{name}.log"}))


class Terminal:
    """A program with a terminal of its own."""

    def __init__(self, *command, size=(24, 80)):
        self.master, slave = pty.openpty()
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        self.slave, self.seen = slave, b""
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.master, text)

    def until(self, text):
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], 60)
            check(ready, f"{text!r} did not come; seen: {self.seen!r}")
            self.seen += os.read(self.master, 65536)
        self.seen = self.seen.split(text, 1)[1]

    def end(self):
        """(exit code, is the terminal as it was?)"""
        code = self.process.wait(60)
        lflag = termios.tcgetattr(self.slave)[3]
        os.close(self.master)
        os.close(self.slave)
        return code, bool(lflag & termios.ECHO and lflag & termios.ICANON)

#!/usr/bin/python3
"""How crispctl explains itself: what to do about each class of errors, the manual page, completion in real shells."""
import harness
import http.server
import os
import pty
import re
import select
import shutil
import socket
import subprocess
import threading

import peer

from ctl import Ctl, container_file, pod_file, write
from harness import Skip, check, check_equal

CTL = f"{harness.BUILD}/bin/crispctl"


def call(*arguments, **options):
    return subprocess.run([CTL, *arguments], capture_output=True, text=True, timeout=60, **options)


def hint(done):
    lines = [line for line in done.stderr.splitlines() if line.startswith("  → ")]
    check(done.returncode != 0 and lines, f"an error with what to do next: {done}")
    return lines[-1]


def test_errors_of_the_connection(node):
    path = f"{node.dir}/x.sock"
    check("systemctl start crispd" in hint(call("-r", f"unix://{path}", "ps")), "a socket that is not there")
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(path)
    check("nobody listens" in hint(call("-r", f"unix://{path}", "ps")), "a socket that nobody listens on")
    os.unlink(path)

    silent = socket.socket(socket.AF_UNIX)
    silent.bind(path)
    silent.listen()
    os.chmod(path, 0o600)
    denied = call("-r", f"unix://{path}", "ps", preexec_fn=lambda: (os.setgid(65534), os.setuid(65534)))
    if "Permission denied" not in denied.stderr:
        raise AssertionError(f"a socket that is root's: {denied.stderr}")
    check("sudo crispctl ps" in hint(denied), f"a socket that is root's: {denied.stderr}")
    check("-t 30s" in hint(call("-t", "500ms", "-r", f"unix://{path}", "ps")), "a socket that says nothing")
    silent.close()
    os.unlink(path)

    class Http(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Http)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    wrong = call("-t", "5s", "-r", f"127.0.0.1:{web.server_address[1]}", "ps")
    check("is 127.0.0.1" in hint(wrong) and "CRI socket" in hint(wrong), f"a web server: {wrong.stderr}")
    web.shutdown()


def test_an_endpoint_that_is_no_cri(node):
    import grpc
    from concurrent import futures
    server = grpc.server(futures.ThreadPoolExecutor(2))
    path = f"{node.dir}/other.sock"
    server.add_insecure_port(f"unix://{path}")
    server.start()
    done = call("-r", f"unix://{path}", "ps")
    check("-r names another" in hint(done) or "crispctl version" in hint(done), f"gRPC without CRI: {done.stderr}")
    server.stop(0).wait()


def test_errors_of_objects(node):
    daemon = node.crispd()
    ctl = Ctl(daemon)
    image = node.registry.push(harness.busybox_image(), "busybox")
    for name in ("webserver", "other"):
        ctl("run", container_file(daemon, name, image, "exec sleep 1000"), pod_file(daemon, name))
    container, pod = ctl("ps", "-q", "--name", "webserver").strip(), ctl("pods", "-q", "--name", "webserver").strip()

    def wrong(*arguments):
        ctl(*arguments, code=1)
        check("\n  → " in ctl.errors, f"{arguments} says what to do: {ctl.errors}")
        return ctl.errors
    near = wrong("inspect", "websever")
    check('did you mean "webserver"?' in near and "crispctl ps -a" in near, f"a name with a slip: {near}")
    slip = container[:11] + ("0" if container[11] != "0" else "1") + container[12]
    check(f'did you mean "{container[:13]}"' in wrong("stop", slip), "an id with a slip")
    check("webserver" in wrong("inspectp", "webserve"), "the name of a pod with a slip")
    check("busybox:latest" in wrong("inspecti", "busybx:latest") and "crispctl images" in ctl.errors, "an image with a slip")
    ids = ctl("ps", "-q").split()
    common = os.path.commonprefix(ids)
    many = wrong("inspect", common or "")
    check("say more of the id" in many and "--no-trunc" in many and "webserver" in many, f"an id that two begin with: {many}")
    check("stop it first" in wrong("rm", container) and "-f" in wrong("rmp", pod), "what runs is not removed")
    check("crispctl help ps" in wrong("ps", "-o", "xml"), "an argument that is not understood")
    check("path right" in wrong("runp", "/no/such/file"), "a file that is not there")
    check("--creds" in wrong("pull", f"{denying_registry()}/private:1"), "a pull that is not allowed")
    check("--pull-timeout" in wrong("pull", "--pull-timeout", "1ms", f"{silent_registry()}/slow:1"), "a pull that takes too long")
    check("checkpoint.enable" in wrong("checkpoint", "-e", "/tmp/none.tar", container), "a call that is switched off")
    ctl("logz", code=2)
    check('did you mean "logs"?' in ctl.errors and "→" in ctl.errors, f"a command with a slip: {ctl.errors}")
    ctl("ps", "--frobnicate", code=2)
    check("--help" in ctl.errors, "a flag that is not there")
    ctl("rmp", "-a", "-f")
    daemon.check_clean()


def denying_registry():
    class Deny(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.send_header("Content-Length", "0")
            self.end_headers()
        do_HEAD = do_GET

        def log_message(self, *_):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Deny)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"127.0.0.1:{server.server_address[1]}"


SILENT = []


def silent_registry():
    s = socket.create_server(("127.0.0.1", 0))
    SILENT.append(s)
    return f"127.0.0.1:{s.getsockname()[1]}"


def test_calls_that_the_peer_lacks(node):
    runtime = peer.Containerd(node)
    for arguments in (("events",), ("updatep", "--memory", "1Gi", "0" * 64), ("restorep", "/x", "--pod-config", "/dev/null"),
                      ("checkpoint", "-e", "/x", "0" * 64), ("runtime-config",), ("images", "untag", "a:1")):
        done = call("-r", runtime.endpoint, *arguments)
        check("→" in hint(done), str(arguments))
        if arguments[0] != "restorep":
            check("version" in hint(done) or "crispd has" in hint(done), f"{arguments}: {done.stderr}")
    runtime.stop()


# ---------------------------------------------------------------- the manual

def commands():
    """{command: its flags} as help tells."""
    text = call("help").stdout
    names = re.findall(r"^  (\w[\w-]*)", text.split("Subcommands:")[1], re.M)
    return {name: set(re.findall(r"--[a-z][a-z-]+", call(name, "--help").stdout)) for name in names}


def test_manual_page(node):
    page = call("man").stdout
    check(page.startswith('.TH crispctl 1 '), "a manual page")
    if shutil.which("groff"):
        done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-P-cbou"], input=page, capture_output=True, text=True)
        check_equal((done.returncode, done.stderr), (0, ""), "what groff says about it")
        text = done.stdout
    else:
        text = page.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "")
    known = commands()
    check(len(known) > 40, f"commands: {sorted(known)}")
    missing = [f"{name} {flag}" for name, flags in known.items() for flag in flags if flag not in text]
    missing += [name for name in known if f"crispctl {name}" not in text]
    check_equal(missing, [], "commands and flags that the manual lacks")
    for name in ("ENVIRONMENT", "CONTAINER_RUNTIME_ENDPOINT", "EXIT STATUS", "/etc/crispctl.yaml", "image history"):
        check(name in text, f"the manual has {name}")
    one = call("man", "ps").stdout
    check("crispctl\\-ps" in one and "resolve\\-image\\-path" in one and "port\\-forward" not in one, "the manual of one command")
    check("did you mean" in call("man", "pz").stderr, "the manual of no command")
    undescribed = []
    for name in known:
        lines = call(name, "--help").stdout.splitlines() + [""]
        undescribed += [f"{name}: {line}" for line, after in zip(lines, lines[1:])
                        if re.match(r"  -\S+( \S+)?( REQUIRED)?$", line) and not after.startswith(" " * 20)]
    check_equal(undescribed, [], "options without a word about them")


# ---------------------------------------------------------------- completion

# line (the cursor at its end) → words that must be offered, words that must not.
LINES = [
    ("crispctl inspec", ["inspect", "inspecti", "inspectp"], ["ps"]),
    ("crispctl ps --st", ["--state"], ["--help"]),
    ("crispctl ps --state ", ["running", "exited"], ["ready"]),
    ("crispctl pods -s ", ["ready", "notready"], ["exited"]),
    ("crispctl ps -o ", ["json", "yaml"], ["--help"]),
    ("crispctl top --sort m", ["mem"], ["cpu"]),
    ("crispctl image un", ["untag"], ["pull"]),
    ("crispctl help ver", ["version"], ["ps"]),
    ("crispctl completion ", ["bash", "zsh", "fish"], []),
]


def objects(node):
    daemon = node.crispd()
    ctl = Ctl(daemon)
    image = node.registry.push(harness.busybox_image(), "busybox")
    container = ctl("run", container_file(daemon, "main", image, "exec sleep 1000"), pod_file(daemon)).strip()
    pod = ctl("pods", "-q").strip()
    ask = f"crispctl -r {daemon.endpoint}"
    return daemon, ctl, LINES + [(f"{ask} inspect {container[:4]}", [container[:13]], []), (f"{ask} logs --pod ", [pod[:13]], []),
                                 (f"{ask} inspecti {image[:12]}", [image], [])]


def complete(node, shell, offers):
    if shutil.which(shell) is None:
        raise Skip(f"{shell} is not installed")
    daemon, ctl, lines = objects(node)
    os.makedirs(f"{node.dir}/home")
    script = write(f"{node.dir}/home/completion", call("completion", shell).stdout)
    environment = {"PATH": f"{harness.BUILD}/bin:{os.environ['PATH']}", "HOME": f"{node.dir}/home", "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    for line, wanted, unwanted in lines:
        seen = offers(script, line, environment)
        check([w for w in wanted if w not in seen] == [] and [w for w in unwanted if w in seen] == [],
              f"{shell} offers for {line!r}: {seen}, wanted {wanted}, not {unwanted}")
    ctl("rmp", "-a", "-f")
    daemon.check_clean()


def in_bash(script, line, environment):
    """As bash calls a completion function; what replaces the part behind the last colon is put behind that again."""
    word = line.split(" ")[-1]
    body = f'source {script}; COMP_LINE=$1 COMP_POINT=${{#1}}; _crispctl; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "--norc", "-c", body, "bash", line], capture_output=True, text=True, env=environment, timeout=60)
    check_equal(done.stderr, "", f"bash on {line!r}")
    before = word[:word.rindex(":") + 1] if ":" in word else ""
    return [before + offered for offered in done.stdout.split()]


def in_zsh(script, line, environment):
    """With the completion system itself, in a terminal."""
    body = f"""
        autoload -Uz compinit; compinit -u -D; source {script}
        zstyle ':completion:*' list-prompt ''; LISTMAX=1000000
        compadd() {{ local -a found; builtin compadd -O found "$@"; print -l -- $found >> $OFFERS; }}
        finish() {{ exit; }}
        zle -N finish; bindkey '^X' finish; bindkey '^I' complete-word; PS1='> '
    """
    home = environment["HOME"]
    write(f"{home}/.zshrc", body)
    offers = write(f"{home}/offers", "")
    master, slave = pty.openpty()
    child = subprocess.Popen(["zsh", "-i"], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                             env=environment | {"ZDOTDIR": home, "OFFERS": offers})
    os.close(slave)
    seen = b""
    typed = False
    while child.poll() is None:
        if not select.select([master], [], [], 30)[0]:
            child.kill()
            raise AssertionError(f"zsh says nothing more: {seen!r}")
        try:
            seen += os.read(master, 65536)
        except OSError:
            break
        if b"> " in seen and not typed:
            os.write(master, line.encode() + b"\t\x18")
            typed = True
    child.wait(30)
    os.close(master)
    with open(offers) as f:
        return f.read().split()


def in_fish(script, line, environment):
    done = subprocess.run(["fish", "--no-config", "-c", f"source {script}; complete -C $argv[1]", line], capture_output=True, text=True,
                          env=environment, timeout=60)
    return [offered.split("\t")[0] for offered in done.stdout.splitlines()]


def test_completion_in_bash(node):
    complete(node, "bash", in_bash)


def test_completion_in_zsh(node):
    complete(node, "zsh", in_zsh)


def test_completion_in_fish(node):
    complete(node, "fish", in_fish)


harness.main()

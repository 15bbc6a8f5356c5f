"""Program and kernel tests on a machine with nothing but cgroup v2, where a virtual one can be had.

CRISP_VM_RUN names a program that is called as

    $CRISP_VM_RUN -m MEGABYTES -s DISK -t SECONDS -- COMMAND ARGUMENT…

and runs COMMAND as root in a virtual machine whose root file system is this machine's (what is written there does not come
back), with an ext4 file system of size DISK at /scratch, a pure cgroup v2, and no network; its output and exit code are the
command's. Without it all tests here are skipped.

A virtual machine without hardware help is some thirty times slower than this one: run by hand, `tests/vm_test.py NAME`.
"""
import harness
import os
import shlex
import subprocess
import tempfile

from harness import Skip, check

# systemd as PID 1 of a PID namespace, with the cgroup tree below a cgroup of its own and D-Bus, and nothing else. Then
# "$@" runs beside it.
SYSTEMD = r"""
set -e
mkdir -p /sys/fs/cgroup/machine
echo $$ > /sys/fs/cgroup/machine/cgroup.procs
for c in $(cat /sys/fs/cgroup/cgroup.controllers); do echo +$c > /sys/fs/cgroup/cgroup.subtree_control || true; done
mkdir -p /scratch/units
cp /lib/systemd/system/dbus.service /lib/systemd/system/dbus.socket /scratch/units
sed -i 's/^Requires=/DefaultDependencies=no\nRequires=/; s/--syslog-only/--nosyslog/' /scratch/units/dbus.service
sed -i 's/^\[Socket\]/DefaultDependencies=no\n[Socket]/' /scratch/units/dbus.socket
for t in sysinit basic sockets shutdown umount; do printf '[Unit]\nDefaultDependencies=no\n' > /scratch/units/$t.target; done
printf '[Unit]\nDefaultDependencies=no\nWants=dbus.socket dbus.service\n' > /scratch/units/default.target
cat > /scratch/boot <<'END'
umount -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/lock /run/systemd/system
export container=test SYSTEMD_UNIT_PATH=/scratch/units SYSTEMD_LOG_TARGET=console SYSTEMD_LOG_LEVEL=warning
exec /lib/systemd/systemd --system --unit=default.target
END
unshare --pid --fork --mount --cgroup --mount-proc sh /scratch/boot &
forker=$!
for i in $(seq 600); do
  init=$(cat /proc/$forker/task/$forker/children | tr -d ' ')
  [ -n "$init" ] && [ -S /proc/$init/root/run/dbus/system_bus_socket ] && break
  sleep 0.1
done
for i in $(seq 600); do
  nsenter -t $init -m -p -C busctl --system status org.freedesktop.systemd1 >/dev/null 2>&1 && break
  sleep 0.1
done
nsenter -t $init -m -p -C systemctl --version | head -1
nsenter -t $init -m -p -C "$@"
"""


def in_vm(command, seconds=1500, systemd=False):
    run = os.environ.get("CRISP_VM_RUN")
    if not run:
        raise Skip("CRISP_VM_RUN names no program that runs virtual machines")
    lines = ["set -e", "mkdir -m 1777 /scratch/tmp", "mount --bind /scratch/tmp /var/tmp",
             f"export TEST_TMPDIR=/var/tmp CRISP_BUILD={shlex.quote(harness.BUILD)}",
             f"export CRISP_TEST_CGROUP_DRIVER={'systemd' if systemd else 'cgroupfs'}", f"cd {shlex.quote(harness.ROOT)}"]
    lines += [os.environ.get("CRISP_VM_PRELUDE", "")]
    if systemd:
        if not os.path.exists("/lib/systemd/systemd") or not os.path.exists("/usr/bin/dbus-daemon"):
            raise Skip("systemd or dbus-daemon is not installed")
        lines += [f"bash -c {shlex.quote(SYSTEMD)} with-systemd sh -c {shlex.quote('cd ' + harness.ROOT + '; ' + command)}"]
    else:
        lines += [command]
    with tempfile.TemporaryFile() as log:
        done = subprocess.run([run, "-m", "3072", "-s", "6G", "-t", str(seconds), "--", "bash", "-c", "\n".join(lines)],
                              stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        log.seek(0)
        text = log.read().decode(errors="replace")
    for line in text.splitlines():
        print("# | " + line, flush=True)
    check(done.returncode == 0, f"exit code {done.returncode}")
    check("not ok" not in text, "a test in the virtual machine failed")


def program(name, *cases):
    return f"python3 -B tests/{name}.py {' '.join(cases)}"


def test_kernel_tests(node):
    in_vm(f"{harness.BUILD}/tests/cgroup_kernel_test && {harness.BUILD}/tests/runtime_kernel_test")


def test_pods(node):
    in_vm(program("pods_test"))


def test_resources(node):
    in_vm(program("resources_test"))


def test_events(node):
    in_vm(program("events_test"))


def test_pods_with_systemd(node):
    in_vm(program("pods_test"), systemd=True)


def test_resources_with_systemd(node):
    in_vm(program("resources_test"), systemd=True)


if __name__ == "__main__":
    harness.main()

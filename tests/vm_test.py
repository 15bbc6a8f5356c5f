"""Program and kernel tests on a machine with nothing but cgroup v2, where a virtual one can be had.

CRISP_VM_RUN names a program that is called as

    $CRISP_VM_RUN -m MEGABYTES -s DISK -t SECONDS -- COMMAND ARGUMENT…

and runs COMMAND as root in a virtual machine whose root file system is this machine's (what is written there does not come
back), with an ext4 file system of size DISK at /scratch, a pure cgroup v2, and no network; its output and exit code are the
command's. Without it all tests here are skipped.

An emulated machine should have one CPU: with two, Linux 6.12 was seen to die where it patches its own code (an unexpected
int3). Checkpoints want a kernel with the options that checkpoint_test.py names.

A virtual machine without hardware help is some thirty times slower than this one: run by hand, `tests/vm_test.py NAME`.
"""
import harness
import os
import shlex
import subprocess
import tempfile

from harness import Skip, check


def in_vm(command, seconds=1500, systemd=False):
    run = os.environ.get("CRISP_VM_RUN")
    if not run:
        raise Skip("CRISP_VM_RUN names no program that runs virtual machines")
    lines = ["set -e", "mkdir -m 1777 /scratch/tmp", "mount --bind /scratch/tmp /var/tmp",
             f"export TEST_TMPDIR=/var/tmp CRISP_TEST_PATIENCE=10 CRISP_BUILD={shlex.quote(harness.BUILD)}",
             f"cd {shlex.quote(harness.ROOT)}"]
    lines += [f"tests/under-systemd {command}" if systemd else command]
    # The script is in the build directory, since the machine may have a /tmp of its own.
    with tempfile.NamedTemporaryFile("w", dir=harness.BUILD, suffix=".sh") as script, tempfile.TemporaryFile() as log:
        script.write("\n".join(lines) + "\n")
        script.flush()
        done = subprocess.run([run, "-m", "3072", "-s", "6G", "-t", str(seconds), "--", "bash", script.name],
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
    in_vm(f"{harness.BUILD}/tests/cgroup_kernel_test && {harness.BUILD}/tests/runtime_kernel_test && "
          f"{harness.BUILD}/tests/native_kernel_test")


def test_pods(node):
    in_vm(program("pods_test"))


def test_resources(node):
    in_vm(program("resources_test"))


def test_events(node):
    in_vm(program("events_test"))


def test_stats(node):
    in_vm(program("stats_test"))


def test_crisp_oci(node):
    in_vm(program("crisp_oci_test"), seconds=2400)


def test_crisp_oci_under_systemd(node):
    in_vm("env CRISP_TEST_CGROUP_DRIVER=systemd " + program("crisp_oci_test", "test_scope_of_systemd"), systemd=True)


def test_crash_of_shims(node):
    in_vm("env CRISP_CRASHES=5 " + program("crash_test", "test_crash_of_shims_too"), seconds=2400)


def test_checkpoint(node):
    in_vm(program("checkpoint_test"))


def test_systemd(node):
    in_vm(program("systemd_test"), systemd=True)


def test_pods_under_systemd(node):
    in_vm("env CRISP_TEST_CGROUP_DRIVER=systemd " + program("pods_test"), systemd=True)


def test_resources_under_systemd(node):
    in_vm("env CRISP_TEST_CGROUP_DRIVER=systemd " + program("resources_test"), systemd=True)


if __name__ == "__main__":
    harness.main()

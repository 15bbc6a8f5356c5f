#!/usr/bin/python3
"""crisptest on crisp: the conformance gate. Every spec passes with each handler; every spec fails under a fault of a proxy
between it and crispd (the table spec × fault is printed); benchmarks, reports and the TestGrid layout are what they should be.

CRISPTEST_ARGS adds arguments to the conformance runs, e.g. CRISPTEST_ARGS="--focus Streaming" for daily work.
"""
import harness
import json
import os
import re
import shutil
import subprocess
import threading
import xml.etree.ElementTree as ElementTree

from harness import Skip, check, check_equal

PARALLEL = "4"  # specs wait more than they work


def crisptest(*arguments, timeout=800):
    return subprocess.run([f"{harness.BUILD}/bin/crisptest", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=timeout)


class Target:
    """crispd with all that specs may want: NRI, CDI, checkpoints, and a command that restarts it."""

    def __init__(self, node, handler, **settings):
        os.chmod(node.dir, 0o711)  # a user namespace's root must get to the state directory
        self.node, self.cdi = node, f"{node.dir}/cdi"
        os.makedirs(self.cdi)
        self.daemon = node.crispd(settings={"runtime.default_handler": handler, "cdi.spec_dirs": self.cdi,
                                            "checkpoint.enabled": "true", **settings})
        self.wish = f"{node.dir}/restart-wanted"
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._restart, daemon=True)
        self.thread.start()

    def _restart(self):
        while not self.over.wait(0.02):
            if os.path.exists(self.wish):
                self.daemon.kill()
                self.daemon.start()
                os.unlink(self.wish)

    def arguments(self):
        return [f"--runtime-endpoint={self.daemon.endpoint}", f"--cgroup-parent={self.daemon.cgroup_parent}",
                f"--work-dir={self.node.dir}", f"--cdi-dir={self.cdi}", f"--nri-socket={self.daemon.dir}/state/nri.sock",
                f"--restart-command=touch {self.wish}; while [ -e {self.wish} ]; do sleep 0.02; done"]

    def finish(self):
        self.over.set()
        self.thread.join()
        self.daemon.check_clean()
        check_equal(self.daemon.stop(), 0, "exit code of crispd")


def conformance(node, handler):
    target = Target(node, handler)
    reports = f"{harness.BUILD}/test-results/crisptest-{handler}"
    shutil.rmtree(reports, ignore_errors=True)
    done = crisptest(*target.arguments(), "--parallel", PARALLEL, "--report-dir", reports, "--label", f"crisp {handler}",
                     *os.environ.get("CRISPTEST_ARGS", "").split())
    shown = "".join(f"# {line}\n" for line in done.stdout.splitlines() if not line.startswith("ok "))
    print(shown, end="", flush=True)
    failed = re.findall(r"^FAIL .*(?:\n     [|!] .*)*", done.stdout, re.M)
    check_equal(done.returncode, 0, "exit code of crisptest: " + "\n".join(failed))
    target.finish()


def handlers():
    listed = subprocess.run([f"{harness.BUILD}/bin/crispd", "config", "default"], capture_output=True, text=True).stdout
    return re.findall(r"^\[handlers\.(\w+)\]", listed, re.M)


def test_conformance_with_crun(node):
    conformance(node, "crun")


def test_conformance_with_runc(node):
    conformance(node, "runc")


def test_conformance_with_the_native_handler(node):
    if "native" not in handlers():
        raise Skip("this build of crispd has no native handler")
    conformance(node, "native")


def test_every_spec_can_fail(node):
    """Each fault of each spec: who names a fault that changes nothing proves nothing by it."""
    target = Target(node, "native" if "native" in handlers() else "crun")
    done = crisptest("faults", "--all", *target.arguments(), "--parallel", PARALLEL, "--patience", "2s")
    print("".join(f"# {line}\n" for line in done.stdout.splitlines()), end="", flush=True)
    check_equal(done.returncode, 0, "exit code of crisptest faults")
    check(re.search(r"^\d+ caught, 0 missed, \d+ skipped, 0 specs without a fault$", done.stdout, re.M), done.stdout[-300:])
    specs = {line.split("\t")[0] for line in crisptest("list").stdout.splitlines()}
    caught, skipped = (set(re.findall(rf"^{verdict} +(\S+)", done.stdout, re.M)) for verdict in ("caught", "skipped"))
    check_equal(specs - caught - skipped, set(), "specs that no fault makes fail")
    check_equal({name.split(".")[0] for name in skipped - caught} - {"SELinux", "AppArmor"}, set(), "groups of specs that no fault was tried on")
    target.finish()


def test_a_proxy_without_faults_is_invisible(node):
    target = Target(node, "crun")
    done = crisptest(*target.arguments(), "--fault", "NoSuchCall:fail", "--parallel", PARALLEL,
                     "--focus", "^(Container|Events|Streaming|Streams|RuntimeInfo)", "--skip", "LargeList")
    check_equal(done.returncode, 0, done.stdout)
    target.finish()


def test_every_spec_of_critest_has_a_counterpart(node):
    """docs/critest-specs.tsv is critest's list, docs/conformance.md says which spec of ours does the same, and what critest leaves out."""
    with open(f"{harness.ROOT}/docs/critest-specs.tsv") as table:
        critest = {int(number): text for number, _, text in (line.rstrip("\n").split("\t") for line in list(table)[1:])}
    ours, alone = {}, set()
    for line in crisptest("list").stdout.splitlines():
        name, like = line.split("\t")[:2]
        alone |= set() if like else {name}
        for number in filter(None, like.split(",")):
            ours.setdefault(int(number), set()).add(name)
    missing = [f"{number}: {text}" for number, text in critest.items() if number not in ours and not text.startswith("benchmark")]
    check_equal(missing, [], "specs of critest without one of ours")
    check_equal(set(ours) - set(critest), set(), "numbers that critest does not have")
    with open(f"{harness.ROOT}/docs/conformance.md") as document:
        text = document.read()
    rows = re.findall(r"^\| (\d+): (.*?) \| (\S+) \|$", text, re.M)
    documented = {(int(number), words.removesuffix(" (privileged)")) for number, words, _ in rows}
    check_equal(documented ^ set(critest.items()), set(), "specs in only one of docs/conformance.md and docs/critest-specs.tsv")
    told = {int(number): {name} for number, _, name in rows if name != "`-benchmark`"}
    wrong = {number: (told.get(number), ours.get(number)) for number in {*told, *ours} if told.get(number) != ours.get(number)}
    check_equal(wrong, {}, "specs for which docs/conformance.md names another than the program")
    beyond = {f"{group}.{name}" for group, names in re.findall(r"^- \*\*(\w+)\*\*: (.*)$", text, re.M) for name in names.split(", ")}
    check_equal(beyond ^ alone, set(), "what critest leaves out, in only one of docs/conformance.md and the program")


def test_flags_of_critest(node):
    target = Target(node, "crun")
    names = crisptest("-ginkgo.dry-run", "-ginkgo.focus=RuntimeInfo", "-ginkgo.focus=Idempotence", "-ginkgo.skip=Unknown").stdout.split()
    check("RuntimeInfo.SaysNameAndVersion" in names and "Idempotence.StopOfStoppedPod" in names, names)
    check(not any("Unknown" in name or name.startswith("Container.") for name in names), names)
    images = f"{node.dir}/images.yaml"
    with open(images, "w") as f:
        f.write("defaultTestContainerImage: mine/busybox:1\nwebServerTestImage: mine/web:1\n")
    registry = node.registry
    registry.push(harness.busybox_image(), "mine/busybox", "1")
    junit = f"{node.dir}/junit.xml"
    done = crisptest(*target.arguments(), f"-registry-prefix={registry.host}", f"-test-images-file={images}", "-parallel=2",
                     f"-ginkgo.junit-report={junit}", "-runtime-service-timeout=30s", "-image-service-timeout=1m",
                     "-ginkgo.focus=Container.(ExecSyncGivesOutput|StartedIsRunning)")
    check_equal(done.returncode, 1, "exit code: a user's image has no /guest\n" + done.stdout)
    cases = {case.get("name"): case for case in ElementTree.parse(junit).getroot().iter("testcase")}
    check_equal(set(cases), {"ExecSyncGivesOutputAndCode", "StartedIsRunning"}, "cases in the JUnit report")
    check("guest" in cases["StartedIsRunning"].find("failure").text, "the failure is told")
    done = crisptest(*target.arguments(), "-websocket-exec", "-websocket-attach", "-websocket-portforward", "-ginkgo.focus=Streaming")
    check_equal(done.returncode, 0, done.stdout)
    done = crisptest(*target.arguments(), "-runtime-endpoint=unix:///no/such.sock", "-runtime-service-timeout=1s", "-ginkgo.focus=RuntimeInfo")
    check_equal(done.returncode, 2, done.stdout)  # the last flag counts, as with Go's
    check("no runtime answers on unix:///no/such.sock" in done.stdout, done.stdout)
    target.finish()


# What critest 1.36 writes for the parameters below: operations, samples, at a time, keys of metaInfo (None: it is null).
CRITEST_SAMPLES = {
    "container": (["CreateContainer", "StartContainer", "StatusContainer", "StopContainer", "RemoveContainer"], 3, 2, {"containerId", "podId"}),
    "pod": (["CreatePod", "StatusPod", "StopPod", "RemovePod"], 2, 1, {"podId", "podSandboxName"}),
    "image_lifecycle": (["PullImage", "StatusImage", "RemoveImage"], 2, 1, {"imageId"}),
    "image_listing": (["ListImages"], 2, 1, None),
}


def check_like_critest(path, operations, count, parallel, meta):
    with open(path) as f:
        data = json.load(f)
    check_equal(set(data), {"operationsNames", "numParallel", "datapoints"}, f"members of {path}")
    check_equal((data["operationsNames"], data["numParallel"]), (operations, parallel), path)
    check_equal([point["sampleIndex"] for point in data["datapoints"]], list(range(count)), f"samples of {path}")
    for point in data["datapoints"]:
        check_equal(set(point), {"sampleIndex", "startTime", "endTime", "operationsDurationsNs", "metaInfo"}, f"members of a sample of {path}")
        took = point["operationsDurationsNs"]
        check(len(took) == len(operations) and all(type(ns) is int and ns > 0 for ns in took), point)
        check(10**18 < point["startTime"] < point["endTime"] and sum(took) <= point["endTime"] - point["startTime"], point)
        check_equal(point["metaInfo"] and set(point["metaInfo"]), meta, f"metaInfo of {path}")
        check(all(type(text) is str and text for text in (point["metaInfo"] or {}).values()), point)


def test_benchmarks(node):
    target = Target(node, "crun")
    params, samples, results = f"{node.dir}/params.yaml", f"{node.dir}/samples", f"{node.dir}/results.json"
    with open(params, "w") as f:
        f.write("containersNumber: 3\ncontainersNumberParallel: 2\npodsNumber: 2\nimagesNumber: 2\nscratchNumber: 1\nexecsNumber: 2\n"
                "densityPods: 2\nchurnNumber: 2\nchurnNumberParallel: 2\nstatsNumber: 0\ncontainerBenchmarkTimeoutSeconds: 60\n")
    done = crisptest(*target.arguments(), "-benchmark", f"-benchmarking-params-file={params}", f"-benchmarking-output-dir={samples}",
                     "--json-report", results)
    check_equal(done.returncode, 0, done.stdout)
    for name, (operations, count, parallel, meta) in CRITEST_SAMPLES.items():
        check_like_critest(f"{samples}/{name}_benchmark_data.json", operations, count, parallel, meta)
    for name in ("pod_container", "exec", "density", "churn"):
        check(os.path.exists(f"{samples}/{name}_benchmark_data.json"), f"samples of {name}")
    check(not os.path.exists(f"{samples}/stats_benchmark_data.json"), "a number of 0 leaves a family out")
    target.finish()


def document(label, verdicts, kind="validation"):
    return {"suite": "crisptest", "version": "1", "kind": kind, "label": label, "started": 1000, "finished": 1010,
            "runtime": {"name": "crisp", "version": "1", "api_version": "v1", "handler": "crun", "endpoint": "unix:///x"},
            "host": {"name": "node", "kernel": "6.1"}, "benchmarks": [],
            "specs": [{"group": "Group", "name": name, "verdict": verdict, "seconds": 0.5, "like": [7],
                       "message": "" if verdict == "passed" else f"<b>why</b> & </script> {name} {verdict}"} for name, verdict in verdicts.items()]}


def test_layout_for_testgrid(node):
    out = f"{node.dir}/run"
    os.makedirs(out)
    with open(f"{out}/results.json", "w") as f:
        json.dump(document("one", {"A": "passed", "B": "failed", "C": "skipped"}), f)
    check_equal(crisptest("publish", out).returncode, 0, "exit code of publish")
    def read(name):
        with open(f"{out}/{name}") as f:
            return json.load(f)
    check_equal(read("started.json")["timestamp"], 1000, "started")
    finished = read("finished.json")
    check_equal((finished["timestamp"], finished["passed"], finished["result"]), (1010, False, "FAILURE"), "finished")
    check_equal(read("artifacts/metadata.json")["runtime"], "crisp", "metadata")
    suite = ElementTree.parse(f"{out}/artifacts/junit_01.xml").getroot().find("testsuite")
    check_equal((suite.get("tests"), suite.get("failures"), suite.get("skipped")), ("3", "1", "1"), "counts")
    failure = next(case for case in suite.iter("testcase") if case.get("name") == "B").find("failure")
    check_equal(failure.text, "<b>why</b> & </script> B failed", "the failure's text")


# What somebody does with the keyboard, and what the page then shows; the answer is the title.
KEYS = """<script>
const press = (key, on = document.activeElement) => on.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
const cells = [...document.querySelectorAll("td.cell button")], seen = {};
seen.stops = cells.filter(cell => cell.tabIndex === 0).length;
seen.heads = [...document.querySelectorAll("#grid thead tr:first-child th")].map(th => th.textContent + (th.colSpan > 1 ? " x" + th.colSpan : ""));
seen.group = [...document.querySelectorAll("tr.group td")].map(td => td.textContent);
seen.failures = document.querySelector("#failures summary").textContent + ": " + document.querySelector("#failures dl").textContent;
cells[0].focus(); press("n");
seen.next = document.activeElement.getAttribute("aria-label");
cells[0].focus(); press("ArrowDown"); press("ArrowRight");
seen.focused = document.activeElement.getAttribute("aria-label");
document.activeElement.click();
seen.dialog = document.getElementById("details").open;
seen.text = document.getElementById("details-text").textContent;
document.getElementById("details").close();
const show = document.getElementById("show"); show.value = "differ"; show.dispatchEvent(new Event("change"));
seen.differ = [...document.querySelectorAll("#grid tbody tr:not(.group) th")].map(th => th.textContent);
show.value = "flaky"; show.dispatchEvent(new Event("change"));
seen.flaky = [...document.querySelectorAll("#grid tbody tr:not(.group) th")].map(th => th.textContent);
show.value = "all"; show.dispatchEvent(new Event("change"));
document.querySelector("tr.group button").click();
seen.folded = document.querySelectorAll("td.cell").length + " " + document.activeElement.getAttribute("aria-expanded");
document.activeElement.click();
const filter = document.getElementById("filter"); filter.value = "group.c"; filter.dispatchEvent(new Event("input"));
seen.filtered = [...document.querySelectorAll("#grid tbody tr:not(.group) th")].map(th => th.textContent);
seen.plots = document.querySelectorAll(".plot svg polyline").length;
seen.medians = [...document.querySelectorAll("#medians tbody tr")].map(tr => [...tr.cells].map(cell => cell.textContent + (cell.className === "best" ? "!" : "")).join(" "));
seen.contrast = getComputedStyle(document.body).backgroundColor;
document.title = JSON.stringify(seen);
</script>"""


def test_report_page_in_a_browser(node):
    page, files = f"{node.dir}/page.html", []
    documents = [document("one", {"A": "passed", "B": "passed", "C": "passed"}), document("two", {"A": "passed", "B": "passed", "C": "skipped"}),
                 document("two", {"A": "passed", "B": "failed", "C": "skipped"})]
    documents[2]["started"] += 5  # the newest run of a runtime comes first
    for index, one in enumerate(documents):
        one["benchmarks"] = [{"name": "Container", "operations": ["CreateContainer"], "parallel": 1,
                              "samples": [{"start_ns": 0, "end_ns": 9, "durations_ns": [1000000 * (i + index + 1)], "meta": {}} for i in range(5)]}]
        files.append(f"{node.dir}/{index}.json")
        with open(files[-1], "w") as f:
            json.dump(one, f)
    check_equal(crisptest("report", "-o", page, *files).returncode, 0, "exit code of report")
    with open(page) as f:
        text = f.read()
    check(not re.search(r"(src|href)\s*=|@import|url\(", text), "the page refers to something outside of it")
    chromium = shutil.which("chromium")
    if chromium is None:
        raise Skip("chromium is not installed")
    with open(page, "w") as f:
        f.write(text.replace("</body>", KEYS + "</body>"))
    for dark in ("0", "1"):
        done = subprocess.run([chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={node.dir}/chromium", "--dump-dom",
                               f"--blink-settings=preferredColorScheme={dark}", f"file://{page}"], capture_output=True, text=True, timeout=120)
        title = re.search(r"<title>(.*?)</title>", done.stdout, re.S)
        check(title and title[1].startswith("{"), done.stderr[-2000:])
        seen = json.loads(title[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
        check_equal(seen.pop("contrast"), "rgb(13, 17, 23)" if dark == "0" else "rgb(255, 255, 255)", "background")
        check_equal(seen, {"stops": 1, "focused": "Group B, two: failed", "dialog": True, "text": "<b>why</b> & </script> B failed",
                           "heads": ["spec", "one", "two x2"], "group": ["3 of 3", "1 of 2", "2 of 2"], "next": "Group B, two: failed",
                           "failures": "What failed: 1 of 3 specs: Group.Btwo <b>why</b> & </script> B failed",
                           "differ": ["B", "C"], "flaky": ["B"], "folded": "0 false", "filtered": ["C"], "plots": 3, "medians": ["Container", "CreateContainer 3.00! 4.00 5.00"]}, "what the page shows")


if __name__ == "__main__":
    harness.main()

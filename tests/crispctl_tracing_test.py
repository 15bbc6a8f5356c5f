#!/usr/bin/python3
"""crispctl --enable-tracing: which spans a collector gets, and what a runtime is told of the trace. Both are servers of this
test: a collector that keeps what it gets, a runtime that answers each call of CRI with an empty message."""
import harness
import os
import socket
import subprocess
from concurrent import futures

import grpc

import cri

from harness import check, check_equal

CTL = f"{harness.BUILD}/bin/crispctl"
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
VERSION = "/runtime.v1.RuntimeService/Version"
otlp = cri.generate("otlp/v1/trace")


def serve(handler, address):
    """(the server, its port)"""
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[handler])
    port = server.add_insecure_port(address)
    server.start()
    return server, port


class Collector(grpc.GenericRpcHandler):
    def __init__(self, answer=None):
        self.requests, self.answer = [], answer or otlp.ExportTraceServiceResponse()
        self.server, port = serve(self, "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"

    def service(self, details):
        def export(request, _):
            self.requests.append(request)
            return self.answer
        check_equal(details.method, EXPORT, "what a collector is asked")
        return grpc.unary_unary_rpc_method_handler(export, otlp.ExportTraceServiceRequest.FromString,
                                                   otlp.ExportTraceServiceResponse.SerializeToString)

    def take(self):
        """Of the one request that came: attributes of the resource, the root span, the others."""
        check_equal(len(self.requests), 1, "requests to the collector")
        (spans,) = self.requests.pop().resource_spans
        (scope,) = spans.scope_spans
        check_equal(scope.scope.name, "crispctl", "the scope")
        (root,) = [span for span in scope.spans if not span.parent_span_id]
        return attributes(spans.resource), root, [span for span in scope.spans if span.parent_span_id]


class Runtime(grpc.GenericRpcHandler):
    def __init__(self, node):
        self.calls, self.broken = [], {}  # [(method, traceparent or None)], {method: what is wrong with it}
        self.endpoint = f"unix://{node.dir}/cri.sock"
        self.server, _ = serve(self, self.endpoint)

    def service(self, details):
        _, service, name = details.method.split("/")
        found = cri.pb.DESCRIPTOR.services_by_name.get(service.split(".")[-1])
        method = found and found.methods_by_name.get(name)
        if method is None:
            return None
        self.calls.append((details.method, dict(details.invocation_metadata).get("traceparent")))
        request, reply = (getattr(cri.pb, message.name) for message in (method.input_type, method.output_type))

        def answer(_, context):
            if name in self.broken:
                context.abort(grpc.StatusCode.INTERNAL, self.broken[name])
            return iter(()) if method.server_streaming else reply()
        make = grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
        return make(answer, request.FromString, reply.SerializeToString)


def attributes(holder):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in holder.attributes}


def call(runtime, *arguments, code=0, program=CTL):
    done = subprocess.run([program, "-r", runtime.endpoint, *arguments], capture_output=True, text=True, timeout=60)
    check_equal(done.returncode, code, f"{arguments}: {done.stdout}{done.stderr}")
    return done


def traced(runtime, collector, *arguments, **more):
    return call(runtime, "--enable-tracing", "--tracing-endpoint", collector.address, *arguments, **more)


def test_spans_of_a_command(node):
    runtime, collector = Runtime(node), Collector()
    done = traced(runtime, collector, "version")
    check_equal(done.stderr, "", "what is said about it")
    resource, root, (span,) = collector.take()
    check_equal((resource["service.name"], resource["host.name"]), ("crispctl", socket.gethostname()), "the resource")
    check(resource["process.pid"] > 0, "the process")
    check_equal((root.name, root.kind, root.status.code), ("crispctl version", otlp.Span.KIND_INTERNAL, 0), "the root")
    check_equal((span.name, span.kind, span.status.code), (VERSION[1:], otlp.Span.KIND_CLIENT, 0), "the call")
    check_equal(attributes(span), {"rpc.system": "grpc", "rpc.service": "runtime.v1.RuntimeService", "rpc.method": "Version",
                                   "rpc.grpc.status_code": 0}, "attributes of the call")
    check_equal((span.trace_id, span.parent_span_id), (root.trace_id, root.span_id), "one trace")
    check_equal((len(root.trace_id), len(root.span_id), len(span.span_id)), (16, 8, 8), "lengths of the ids")
    check(span.span_id != root.span_id, "ids of their own")
    check(root.start_time_unix_nano <= span.start_time_unix_nano < span.end_time_unix_nano <= root.end_time_unix_nano,
          f"the call lies in the command: {root} {span}")
    check_equal(runtime.calls, [(VERSION, f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01")], "what the runtime is told")

    traced(runtime, collector, "version")
    check(collector.take()[1].trace_id != root.trace_id, "each command is a trace of its own")
    runtime.calls.clear()
    traced(runtime, collector, "events")
    _, root, spans = collector.take()
    check("runtime.v1.RuntimeService/GetContainerEvents" in [span.name for span in spans], f"a stream: {spans}")
    traced(runtime, collector, "images", "-q")
    _, _, spans = collector.take()
    check_equal({attributes(span)["rpc.service"] for span in spans}, {"runtime.v1.ImageService"}, "calls about images")
    check(all(span.parent_span_id for span in spans), "each call has a parent")


def test_span_of_a_call_that_fails(node):
    runtime, collector = Runtime(node), Collector()
    # Longer than a message in a span may be, with a character across the border.
    runtime.broken["Version"] = "broke: " + "é" * 1000
    done = traced(runtime, collector, "version", code=1)
    check("broke" in done.stderr and "warning" not in done.stderr, done.stderr)
    _, root, (span,) = collector.take()
    for failed in (root, span):
        check_equal(failed.status.code, otlp.Status.ERROR, failed.name)
        check("broke: éé" in failed.status.message and len(failed.status.message.encode()) <= 1024, failed.status.message)
    check_equal(attributes(span)["rpc.grpc.status_code"], grpc.StatusCode.INTERNAL.value[0], "the code")


def test_called_crictl(node):
    """The names of crictl's own traces."""
    runtime, collector = Runtime(node), Collector()
    os.symlink(CTL, f"{node.dir}/crictl")
    traced(runtime, collector, "version", program=f"{node.dir}/crictl")
    resource, root, _ = collector.take()
    check_equal((resource["service.name"], root.name), ("cri-tools", "version"), "names")
    check_equal(attributes(root), {"command": "version"}, "attributes of the root")


def test_only_when_told(node):
    runtime, collector = Runtime(node), Collector()
    call(runtime, "--tracing-endpoint", collector.address, "version")
    check_equal((runtime.calls, collector.requests), ([(VERSION, None)], []), "without --enable-tracing")


def test_sampling(node):
    runtime, collector = Runtime(node), Collector()
    for rate, sampled in ((0, False), (-1, True), (1000000, True), (5000000, True)):
        traced(runtime, collector, "--tracing-sampling-rate-per-million", str(rate), "version")
        check_equal(len(collector.requests), int(sampled), f"traces at {rate}")
        collector.requests.clear()
        traceparent = runtime.calls.pop()[1]
        check(traceparent.endswith("-01" if sampled else "-00"), f"the runtime is told at {rate}: {traceparent}")
    for _ in range(16):
        traced(runtime, collector, "--tracing-sampling-rate-per-million", "400000", "version")
        _, trace, _, flags = runtime.calls.pop()[1].split("-")
        # As TraceIdRatioBased of OpenTelemetry decides.
        wanted = int(trace[16:], 16) >> 1 < 0.4 * 2 ** 63
        check_equal((flags, len(collector.requests)), ("01", 1) if wanted else ("00", 0), f"the trace {trace}")
        collector.requests.clear()
    call(runtime, "--enable-tracing", "--tracing-sampling-rate-per-million", "some", "version", code=2)


def test_collectors_that_are_no_help(node):
    """A line on stderr, nothing else."""
    runtime = Runtime(node)
    plain = call(runtime, "version")
    with socket.create_server(("127.0.0.1", 0)) as gone:
        closed = f"127.0.0.1:{gone.getsockname()[1]}"
    silent = socket.create_server(("127.0.0.1", 0))
    refusing = Collector(otlp.ExportTraceServiceResponse(partial_success={"rejected_spans": 2, "error_message": "full\nup"}))
    for address, words in ((closed, "Connection refused"), (f"127.0.0.1:{silent.getsockname()[1]}", "no answer in 5 s"),
                           (refusing.address, "has refused 2 spans of the trace: full?up")):
        done = call(runtime, "--enable-tracing", "--tracing-endpoint", address, "version")
        check_equal(done.stdout, plain.stdout, f"the answer, with {address}")
        (line,) = done.stderr.splitlines()
        check(line.startswith("crispctl: warning: ") and address in line and words in line, line)
    silent.close()
    runtime.broken["Version"] = "broken"
    done = call(runtime, "--enable-tracing", "--tracing-endpoint", closed, "version", code=1)
    check("broken" in done.stderr and "warning" in done.stderr, f"both are told: {done.stderr}")


def test_the_collectors_messages(node):
    """api/otlp has the numbers of the specification: bytes that the Python package opentelemetry-proto wrote."""
    request = otlp.ExportTraceServiceRequest.FromString(bytes.fromhex(
        "0a6e0a0a0a080a016112030a016212600a060a016e12017612560a105454545454545454545454545454545412085353535353535353220850505050"
        "505050502a0463616c6c30033901000000000000004102000000000000004a070a01691202180e7a0512016d1802850101000000"))
    text = {"key": "a", "value": {"string_value": "b"}}
    number = {"key": "i", "value": {"int_value": 14}}
    span = {"trace_id": b"T" * 16, "span_id": b"S" * 8, "parent_span_id": b"P" * 8, "flags": 1, "name": "call",
            "kind": otlp.Span.KIND_CLIENT, "start_time_unix_nano": 1, "end_time_unix_nano": 2, "attributes": [number],
            "status": {"code": otlp.Status.ERROR, "message": "m"}}
    scope = {"scope": {"name": "n", "version": "v"}, "spans": [span]}
    wanted = otlp.ExportTraceServiceRequest(resource_spans=[{"resource": {"attributes": [text]}, "scope_spans": [scope]}])
    check_equal(request, wanted, "a request")
    answer = otlp.ExportTraceServiceResponse.FromString(bytes.fromhex("0a050803120165"))
    check_equal(answer, otlp.ExportTraceServiceResponse(partial_success={"rejected_spans": 3, "error_message": "e"}), "an answer")


harness.main()

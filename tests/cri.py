"""A CRI client for the program tests: the service's messages as Python classes, generated on first use by protoc from
api/cri/v1/api.proto into a temporary directory, and one method per RPC.

    client = cri.Client("unix:///…/crisp.sock")
    client.RunPodSandbox(config=..., timeout=30)        # keyword arguments become the request's fields
    cri.pb.PodSandboxConfig(...)                         # the messages
Errors are grpc.RpcError; its code() and details() are what tests look at.
"""
import importlib
import os
import shutil
import subprocess
import sys
import tempfile

import grpc

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def generate(path):
    """The messages of api/<path>.proto."""
    folder, name = os.path.split(path)
    out = tempfile.mkdtemp(prefix="crisp-proto-")
    try:
        subprocess.run(["protoc", f"--proto_path={ROOT}/api/{folder}", f"--python_out={out}", f"{name}.proto"], check=True)
        sys.path.insert(0, out)
        module = importlib.import_module(f"{name}_pb2")
        sys.path.pop(0)
        return module
    finally:
        shutil.rmtree(out)


pb = generate("cri/v1/api")


class Client:
    def __init__(self, endpoint, default_timeout=60):
        self.channel = grpc.insecure_channel(endpoint, options=[("grpc.max_receive_message_length", 64 << 20),
                                                                ("grpc.use_local_subchannel_pool", 1),
                                                                ("grpc.default_authority", "localhost")])
        self.default_timeout = default_timeout * float(os.environ.get("CRISP_TEST_PATIENCE", "1"))

    def close(self):
        self.channel.close()

    def __getattr__(self, name):
        for service in pb.DESCRIPTOR.services_by_name.values():
            method = service.methods_by_name.get(name)
            if method is not None:
                break
        else:
            raise AttributeError(name)
        request_type = getattr(pb, method.input_type.name)
        reply_type = getattr(pb, method.output_type.name)
        make = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        call = make(f"/{service.full_name}/{name}", request_serializer=request_type.SerializeToString,
                    response_deserializer=reply_type.FromString)

        has_timeout = "timeout" in request_type.DESCRIPTOR.fields_by_name

        def request_and_deadline(timeout, fields):
            # `timeout` is the request's own where it has one (StopContainer, ExecSync), else the call's.
            if has_timeout and timeout is not None:
                return request_type(timeout=timeout, **fields), self.default_timeout + timeout
            return request_type(**fields), timeout or self.default_timeout

        def invoke(timeout=None, wait_for_ready=True, **fields):
            request, deadline = request_and_deadline(timeout, fields)
            return call(request, timeout=deadline, wait_for_ready=wait_for_ready)

        def start(timeout=None, **fields):  # without waiting: a grpc future
            request, deadline = request_and_deadline(timeout, fields)
            return call.future(request, timeout=deadline, wait_for_ready=True)

        invoke.start = start
        setattr(self, name, invoke)
        return invoke


def pod_config(name, namespace="default", uid=None, attempt=0, log_directory="", cgroup_parent="", host_network=False,
               **more):
    config = pb.PodSandboxConfig(
        metadata=pb.PodSandboxMetadata(name=name, namespace=namespace, uid=uid or f"uid-{name}", attempt=attempt),
        log_directory=log_directory, **more)
    config.linux.cgroup_parent = cgroup_parent
    if host_network:
        config.linux.security_context.namespace_options.network = pb.NODE
    return config


def container_config(name, image, command=(), args=(), attempt=0, log_path=None, **more):
    return pb.ContainerConfig(metadata=pb.ContainerMetadata(name=name, attempt=attempt), image=pb.ImageSpec(image=image),
                              command=list(command), args=list(args),
                              log_path=f"{name}.log" if log_path is None else log_path, **more)

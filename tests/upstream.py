"""Upstream's crictl beside ours: which one, its environment, and when two documents are the same.

CRISP_CRICTL names the crictl to compare with (built from sigs.k8s.io/cri-tools).
"""
import json
import os
import re

# What changes from one look to the next, on its own.
MOVING = {"timestamp", "usageCoreNanoSeconds", "usageNanoCores", "availableBytes", "usageBytes", "rssBytes", "pageFaults",
          "majorPageFaults", "workingSetBytes", "usedBytes", "inodesUsed", "processCount", "swapUsageBytes", "avg10", "avg60",
          "avg300", "total", "swapAvailableBytes", "rxBytes", "txBytes", "rxErrors", "txErrors"}
# Fields that CRI got after the crictl that we compare with was built: it cannot show them.
NEWER = set(os.environ.get("CRISP_CRICTL_UNKNOWN", "mountOptions mount_options userNamespacesHostNetwork").split())


def program():
    return os.environ.get("CRISP_CRICTL")


def environment(config):
    """Of this process, but nothing in it that crictl would take for settings."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("CRI", "CONTAINER_RUNTIME", "IMAGE_S"))}
    return own | {"CRI_CONFIG_FILE": config}


def still(value):
    """The document with a mark in place of what moves: keys and types are compared."""
    if isinstance(value, dict):
        if value.get("containers") and "attributes" in value["containers"][0]:  # of a pod's stats: containerd has no order
            value = value | {"containers": sorted(value["containers"], key=lambda c: c["attributes"]["id"])}
        return {k: (type(v).__name__ if k in MOVING and not isinstance(v, (dict, list)) else
                    {"value": "moves"} if k in MOVING and isinstance(v, dict) and set(v) == {"value"} else still(v))
                for k, v in value.items()}
    if isinstance(value, list):
        return [still(v) for v in value]
    return value


def differences(wanted, seen, path=""):
    if isinstance(wanted, dict) and isinstance(seen, dict):
        for key in sorted((set(wanted) | set(seen)) - (NEWER - set(wanted))):
            if key not in seen:
                yield f"  {path}.{key}: missing, upstream has {json.dumps(wanted[key])[:200]}"
            elif key not in wanted:
                yield f"  {path}.{key}: too much: {json.dumps(seen[key])[:200]}"
            else:
                yield from differences(wanted[key], seen[key], f"{path}.{key}")
    elif isinstance(wanted, list) and isinstance(seen, list) and len(wanted) == len(seen):
        for i, (w, s) in enumerate(zip(wanted, seen)):
            yield from differences(w, s, f"{path}[{i}]")
    elif isinstance(wanted, (int, float)) and isinstance(seen, (int, float)):
        if float(wanted) != float(seen):  # crictl reads the numbers in info as floating point
            yield f"  {path}: upstream {wanted}, ours {seen}"
    elif wanted != seen:
        yield f"  {path}: upstream {wanted!r:.400}, ours {seen!r:.400}"


def cells(text):
    """Cells, not blanks; how long ago something was may differ between two looks."""
    text = re.sub(r"\x1b\[\d*[A-Z]", "", text)  # upstream wipes the screen
    text = re.sub(r"(Less than a second|About a minute|\d+ \w+) ago", "AGO", text)
    return [line.split() for line in text.splitlines()]

"""One question to one Python, answered as a JSON object: ``python doctor_probe.py NAME``.

`doctor` starts this file in the virtual environment's Python, a process a question, so an import
that crashes or hangs costs one line of its report.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
Facts = dict[str, Any]  # findings by name, or {"error": …}


def probe_python() -> Facts:
    """Version, and whether venv and the C headers are there."""
    import importlib.util

    return {
        "version": list(sys.version_info[:3]),
        "venv": importlib.util.find_spec("ensurepip") is not None,
        "headers": Path(sysconfig.get_paths()["include"], "Python.h").exists(),
    }


def probe_torch() -> Facts:
    """Version of torch, whether it computes, and whether a GPU is there."""
    import torch

    return {
        "version": torch.__version__,
        "works": float(torch.ones(2, 2).sum()) == 4.0,
        "cuda": torch.cuda.is_available(),
    }


def probe_horovod() -> Facts:
    """What Horovod says of its own build, once its torch extension has loaded."""
    import horovod
    import horovod.torch
    from horovod.runner.launch import check_build

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        check_build(verbose=False)
    return {"version": horovod.__version__, "build": parse_check_build(said.getvalue())}


def probe_onnx() -> Facts:
    """Versions of ONNX and ONNX Runtime, and a one-node model sent through both."""
    import numpy as np
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "doctor", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (doubled,) = session.run(None, {"x": np.array([1.0, 2.0], dtype=np.float32)})
    return {
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "works": doubled.tolist() == [2.0, 4.0],
    }


def probe_iotcore() -> Facts:
    """Version of the embedded broker."""
    import iotcore

    return {"version": iotcore.__version__}


def probe_data() -> Facts:
    """Which ECG a demo would use."""
    sys.path.insert(0, str(REPOSITORY))  # run as a script, only scripts/ is on the path
    from common.ecg.sources import data_root, open_source

    root = data_root(None, os.environ)
    source = open_source(root)
    return {"kind": source.kind, "root": str(root), "notice": source.notice}


PROBES: dict[str, Callable[[], Facts]] = {
    "python": probe_python,
    "torch": probe_torch,
    "horovod": probe_horovod,
    "onnx": probe_onnx,
    "iotcore": probe_iotcore,
    "data": probe_data,
}


def parse_check_build(text: str) -> dict[str, list[str]]:
    """``horovodrun --check-build``: what is ticked under each heading, in lower case."""
    ticked: dict[str, list[str]] = {}
    heading = ""
    for line in text.splitlines():
        title = re.match(r"Available (.+):", line)
        tick = re.match(r"\s*\[X\] (\S+)", line)
        if title:
            heading = title[1].lower()
            ticked[heading] = []
        elif tick and heading:
            ticked[heading].append(tick[1].lower())
    return ticked


def probe(name: str) -> Facts:
    """Facts of one probe; whatever its import raises is a fact too."""
    try:
        return PROBES[name]()
    except Exception as fault:  # a broken package may raise anything while it is imported
        return {
            "error": f"{type(fault).__name__}: {str(fault).splitlines()[0] if str(fault) else ''}"
        }


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in PROBES:
        sys.exit(f"usage: doctor_probe.py {{{','.join(PROBES)}}}")
    print(json.dumps(probe(sys.argv[1])))

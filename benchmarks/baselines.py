"""The strongest static engines: one model without exits, made and opened as each does it best.

Where an engine has several settings, all are made; `static.py` measures with the best of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from arms import Answer, Inputs, Opener
from fresh import in_fresh_process

TORCH, FLOAT, DYNAMIC = "torch eager", "onnxruntime fp32", "onnxruntime int8 dynamic"
OPENVINO, BFLOAT, NNCF = "OpenVINO fp32", "OpenVINO bf16", "OpenVINO int8"
# What a bundle has to beat, by its precision and engine; other precisions are held against fp32.
UNCUT = {
    ("fp32", "onnxruntime"): FLOAT,
    ("fp32", "openvino"): OPENVINO,
    ("bf16", "openvino"): BFLOAT,
    ("int8", "onnxruntime"): DYNAMIC,
    ("int8", "openvino"): NNCF,
}
DYNAMIC_SETTINGS: dict[str, dict[str, bool]] = {
    "per tensor": {},
    "per channel": {"per_channel": True},
    "per channel, reduced range": {"per_channel": True, "reduce_range": True},
}


class Setting(NamedTuple):
    """A model and how it is opened."""

    opener: Opener
    path: Path


def make_baselines(
    checkpoint: Path, calibration: Sequence[Inputs], threads: int, folder: Path
) -> dict[str, dict[str, Setting]]:
    """Makes what is missing or older than the checkpoint.

    Args:
        checkpoint: A BERT; its exits are left out.
        calibration: What NNCF sees, a row each.
        threads: Of every engine.
        folder: Where the models are kept.

    Returns:
        Baseline -> setting -> what an arm needs. Without nncf there is no OpenVINO int8.
    """
    folder.mkdir(exist_ok=True)
    uncut, converted = folder / "uncut.onnx", folder / "uncut.xml"
    _make(make_uncut, checkpoint, uncut)
    _make(make_openvino, checkpoint, converted)
    dynamic = {}
    for name, options in DYNAMIC_SETTINGS.items():
        dynamic[name] = folder / f"dynamic {name}.onnx"
        _make(partial(make_dynamic_int8, options), uncut, dynamic[name])
    runtime = partial(open_onnxruntime, threads)
    openvino = partial(partial, open_openvino, threads)
    sources = {"from ONNX": uncut, "from torch": converted}
    baselines = {
        TORCH: {"": Setting(partial(open_torch, threads), checkpoint)},
        FLOAT: {"": Setting(runtime, uncut)},
        DYNAMIC: {name: Setting(runtime, path) for name, path in dynamic.items()},
        OPENVINO: {name: Setting(openvino("f32"), path) for name, path in sources.items()},
        BFLOAT: {name: Setting(openvino("bf16"), path) for name, path in sources.items()},
    }
    if find_spec("nncf"):
        baselines[NNCF] = {}
        for name, source in sources.items():
            path = folder / f"nncf {name}.xml"
            _make(partial(make_nncf_int8, calibration), source, path)
            for rest in ("f32", "bf16"):  # of what NNCF leaves alone
                baselines[NNCF][f"{name}, rest {rest}"] = Setting(openvino(rest), path)
    return baselines


def _make(work: Callable[[Path, Path], None], source: Path, path: Path) -> None:
    files = source.iterdir() if source.is_dir() else [source]
    newest = max(file.stat().st_mtime for file in files)
    if not path.exists() or path.stat().st_mtime < newest:
        print(f"making {path}", flush=True)
        in_fresh_process(work, source, path)


def make_uncut(checkpoint: Path, path: Path) -> None:
    from uncut import export_uncut, load_uncut

    export_uncut(load_uncut(checkpoint), path, external_data=False)


def make_openvino(checkpoint: Path, path: Path) -> None:
    """Converts the torch model itself, attention as one operator, as optimum-intel does."""
    import openvino
    import torch

    from effbert.exporter.quiet import quietly
    from uncut import INPUTS

    model = _load(checkpoint)
    model.config.return_dict = False
    example = {name: torch.ones(2, 9, dtype=torch.int64) for name in INPUTS}
    with quietly():
        converted = openvino.convert_model(model, example_input=example)
    openvino.save_model(converted, path, compress_to_fp16=False)


def make_dynamic_int8(options: dict[str, bool], uncut: Path, path: Path) -> None:
    """Quantization by onnxruntime as optimum asks for it: int8 weights, activations by tensor."""
    import logging

    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)  # it recommends the shapes that make it fail
    model = onnx.load(uncut)
    model.graph.ClearField("value_info")  # torch's shapes make the quantizer fail
    quantize_dynamic(model, path, weight_type=QuantType.QInt8, **options)


def make_nncf_int8(calibration: Sequence[Inputs], uncut: Path, path: Path) -> None:
    """Quantization for OpenVINO, with NNCF's settings for transformers."""
    import nncf
    import openvino

    model = openvino.Core().read_model(uncut)
    quantized = nncf.quantize(
        model,
        nncf.Dataset(calibration),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(calibration),
    )
    openvino.save_model(quantized, path, compress_to_fp16=False)


def _load(checkpoint: Path) -> Any:
    """The model as transformers opens it by default."""
    from transformers import BertForSequenceClassification, logging

    logging.set_verbosity_error()  # it would list every exit as an unexpected weight
    logging.disable_progress_bar()
    return BertForSequenceClassification.from_pretrained(checkpoint).eval()


def open_torch(threads: int, checkpoint: Path) -> Answer:
    import torch

    torch.set_num_threads(threads)
    model = _load(checkpoint)

    def answer(inputs: Inputs) -> np.ndarray:
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
            return model(**tensors).logits.numpy()

    return answer


def open_onnxruntime(threads: int, path: Path) -> Answer:
    """With the default settings, whose threads spin: the fastest there are for a single graph."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = threads
    session = InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(["logits"], inputs)[0]


def open_openvino(threads: int, precision: str, path: Path) -> Answer:
    """For latency; `precision` is that of what is not quantized."""
    import openvino

    properties: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
    }
    compiled = openvino.Core().compile_model(path, "CPU", properties)
    request = compiled.create_infer_request()
    ports = {name: place for place, port in enumerate(compiled.inputs) for name in port.names}

    def answer(inputs: Inputs) -> np.ndarray:
        for name, value in inputs.items():
            request.set_input_tensor(ports[name], openvino.Tensor(value, shared_memory=True))
        request.infer(share_outputs=True)
        return request.get_output_tensor(0).data.copy()

    return answer


def open_point(threads: int, engine: str, knobs: dict[str, Any], bundle: Path) -> Answer:
    """A bundle at one operating point."""
    from effbert.runtime import Session

    session = Session(bundle, engine, threads)
    return lambda inputs: session.run(inputs, knobs).logits

"""A complete bundle of a few kilobytes, built in code: three exits over a vocabulary of 50 tokens.

Layer k is `hidden = tanh(hidden @ W_k + masked mean of hidden)`, its exit reads the first token.
The policy is entropy below `threshold`, or with `policy="patience"` as many equal answers in a row
as `patience` says.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper, parser
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from effbert.runtime.bundle import manifest as m
from effbert.runtime.bundle.names import MANIFEST_NAME, WEIGHTS_NAME
from effbert.runtime.bundle.parse import encode_manifest

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = (
    "a the this that film movie story actor plot scene is was not very good bad great poor fine "
    "dull fun slow long short i you we it loved hated liked saw and but or of in with . , ! ? "
    "##s ##ly ##ing"
).split()
VOCABULARY = [*SPECIAL, *WORDS]
LABELS = ["negative", "neutral", "positive"]
HIDDEN = 8
EXITS = 3
MAX_LENGTH = 32
TEXTS: list[list[str]] = [
    ["a very good film"],
    ["the plot was dull", "but the actor was fine"],
    ["i hated it ."],
]

_INPUTS = (
    "int64[batch, sequence] input_ids, int64[batch, sequence] attention_mask, "
    "int64[batch, sequence] token_type_ids"
)
_EMBED = """
    word = Gather (word_embeddings, input_ids)
    kind = Gather (type_embeddings, token_type_ids)
    hidden = Add (word, kind)
"""
_LAYER = """
    mask = Cast <to = 1> (attention_mask)
    column = Unsqueeze (mask, axis_2)
    masked = Mul (hidden, column)
    total = ReduceSum (masked, axis_1)
    count = ReduceSum (column, axis_1)
    mean = Div (total, count)
    mixed = MatMul (hidden, weight)
    moved = Add (mixed, mean)
    hidden_out = Tanh (moved)
    first = Gather <axis = 1> (hidden_out, zero)
    scores = MatMul (first, head)
    logits = Add (scores, bias)
"""
_ENTROPY = """
    probability = Softmax (logits)
    log_probability = LogSoftmax (logits)
    product = Mul (probability, log_probability)
    summed = ReduceSum <keepdims = 0> (product, axis_1)
    signal = Neg (summed)
"""
_PATIENCE = """
    answer_out = ArgMax <axis = 1, keepdims = 0> (logits)
    same = Equal (answer_out, answer)
    grown = Add (counter, one)
    counter_out = Where (same, grown, nought)
    signal = Cast <to = 1> (counter_out)
"""
_ALWAYS = """
    shape = Shape (signal)
    exit = ConstantOfShape <value = bool[1] {1}> (shape)
"""


def build_tiny_bundle(
    folder: Path, *, policy: str = "entropy", shared_weights: bool = False, seed: int = 0
) -> Path:
    """Writes the bundle into `folder` (made if needed) and returns it.

    Args:
        folder: Where to write.
        policy: "entropy" (knob `threshold`) or "patience" (knob `patience`, carried states
            `counter` and `answer`).
        shared_weights: Whether the layers share one matrix, stored in `weights.bin`.
        seed: Of the random weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    models_ = [_segment(k, policy, shared_weights, seed) for k in range(EXITS)]
    names = [f"segment-{k:02}.onnx" for k in range(EXITS)]
    for name, model in zip(names, models_, strict=True):
        (folder / name).write_bytes(model.SerializeToString())
    if shared_weights:
        (folder / WEIGHTS_NAME).write_bytes(_weight(0, seed).tobytes())
    tokenizer = tiny_tokenizer()
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    manifest = _manifest(models_, names, policy, folder, tokenizer)
    (folder / MANIFEST_NAME).write_bytes(encode_manifest(manifest))
    return folder


def tiny_tokenizer() -> Tokenizer:
    """An uncased WordPiece tokenizer over `VOCABULARY`; pairs get token types 0 and 1."""
    vocabulary = {token: index for index, token in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def file_record(data: bytes) -> m.File:
    """The manifest's entry for a file of these bytes."""
    return m.File(size=len(data), sha256=hashlib.sha256(data).hexdigest())


def _weight(layer: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng([seed, layer])
    return generator.normal(0, 0.6, (HIDDEN, HIDDEN)).astype(np.float32)


def _segment(k: int, policy: str, shared_weights: bool, seed: int) -> onnx.ModelProto:
    generator = np.random.default_rng([seed, 100 + k])
    last = k == EXITS - 1
    tensors = {
        "head": generator.normal(0, 1.5, (HIDDEN, len(LABELS))).astype(np.float32),
        "bias": generator.normal(0, 0.1, len(LABELS)).astype(np.float32),
        "axis_1": np.array([1]),
        "axis_2": np.array([2]),
        "zero": np.array(0),
        "weight": _weight(0 if shared_weights else k, seed),
    }
    inputs = f"float[batch, sequence, {HIDDEN}] hidden, int64[batch, sequence] attention_mask"
    outputs = f"float[batch, {len(LABELS)}] logits, float[batch] signal, bool[batch] exit"
    body = _LAYER
    if k == 0:
        inputs = _INPUTS
        body = _EMBED + body
        words = np.random.default_rng([seed, 50]).normal(0, 1, (len(VOCABULARY), HIDDEN))
        tensors["word_embeddings"] = words.astype(np.float32)
        tensors["type_embeddings"] = np.stack([np.zeros(HIDDEN), words[5]]).astype(np.float32)
    if not last:
        outputs += f", float[batch, sequence, {HIDDEN}] hidden_out"
    if policy == "patience":
        inputs += ", int64[batch] counter, int64[batch] answer"
        outputs += "" if last else ", int64[batch] counter_out, int64[batch] answer_out"
        tensors |= {"one": np.array(1), "nought": np.array(0)}
        body += _PATIENCE + (_ALWAYS if last else "exit = GreaterOrEqual (counter_out, patience)\n")
        inputs += "" if last else ", int64 patience"
    else:
        body += _ENTROPY + (_ALWAYS if last else "exit = Less (signal, threshold)\n")
        inputs += "" if last else ", float threshold"
    model = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20], producer_name: "tiny">\n'
        f"segment_{k} ({inputs}) => ({outputs}) {{{body}}}"
    )
    for name, value in tensors.items():
        tensor = numpy_helper.from_array(np.asarray(value), name)
        if name == "weight" and shared_weights:
            _make_external(tensor)
        model.graph.initializer.append(tensor)
    return model


def _make_external(tensor: onnx.TensorProto) -> None:
    length = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", WEIGHTS_NAME), ("offset", "0"), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


def _manifest(
    models_: list[onnx.ModelProto],
    names: list[str],
    policy: str,
    folder: Path,
    tokenizer: Tokenizer,
) -> m.Manifest:
    patience = policy == "patience"
    files = sorted(path for path in folder.iterdir() if path.name != MANIFEST_NAME)
    ids = ["batch", "sequence"]
    states = [
        m.State(name="counter", dtype="int64", axes=["batch"], initial=0.0),
        m.State(name="answer", dtype="int64", axes=["batch"], initial=-1.0),
    ]
    return m.Manifest(
        format="effbert-bundle",
        version=m.VERSION,
        min_reader=m.VERSION,
        producer={"effbert": "tests"},
        source=m.Source(
            name="tiny", sha256="0" * 64, format="tiny", architecture="tiny", paper="none"
        ),
        task="text-classification",
        problem="single-label",
        labels=LABELS,
        limits=m.Limits(
            max_length=MAX_LENGTH, vocab_size=len(VOCABULARY), type_vocab_size=2, pad_id=0
        ),
        padding_free=True,
        tokenizer=m.Tokenizer(
            file="tokenizer.json",
            vocab_size=len(VOCABULARY),
            max_length=MAX_LENGTH,
            special_ids={token: index for index, token in enumerate(SPECIAL)},
        ),
        inputs=[
            m.Input(name="input_ids", dtype="int64", axes=ids),
            m.Input(name="attention_mask", dtype="int64", axes=ids, missing=1),
            m.Input(name="token_type_ids", dtype="int64", axes=ids, missing=0),
        ],
        outputs=["logits"],
        states=states if patience else [],
        segments=[_segment_record(*pair) for pair in zip(names, models_, strict=True)],
        policy=m.Policy(
            name=policy,
            rule="answers in a row >= patience" if patience else "entropy < threshold",
            paper="none",
        ),
        knobs=[_patience_knob() if patience else _threshold_knob()],
        operating_points=[],
        golden=_golden(folder, names, tokenizer),
        parity=m.Parity(
            atol=1e-4,
            rows=len(TEXTS),
            max_abs_diff=[0.0] * EXITS,
            decisions=EXITS * len(TEXTS),
            decisions_near_threshold=0,
        ),
        files={path.name: file_record(path.read_bytes()) for path in files},
    )


def _threshold_knob() -> m.Knob:
    return m.Knob(
        name="threshold", dtype="float32", minimum=0.0, maximum=2.0, default=0.0, never=0.0,
        per_exit=True, raising="earlier",
    )  # fmt: skip


def _patience_knob() -> m.Knob:
    return m.Knob(
        name="patience", dtype="int64", minimum=0.0, maximum=3.0, default=3.0, never=3.0,
        per_exit=False, raising="later",
    )  # fmt: skip


def _segment_record(name: str, model: onnx.ModelProto) -> m.Segment:
    outputs = [_tensor(value) for value in model.graph.output]
    carries = {t.name.removesuffix("_out"): t.name for t in outputs if t.name.endswith("_out")}
    return m.Segment(
        file=name,
        layer=int(name[8:10]) + 1,
        inputs=[_tensor(value) for value in model.graph.input],
        outputs=outputs,
        carries=carries,
        parameters=sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer),
        flops=(2 * HIDDEN * len(LABELS), 2 * HIDDEN * HIDDEN, 0),
    )


def _tensor(value: onnx.ValueInfoProto) -> m.Tensor:
    kind = value.type.tensor_type
    names: dict[int, m.DType] = {1: "float32", 7: "int64", 9: "bool"}
    axes = [dim.dim_param or dim.dim_value for dim in kind.shape.dim]
    return m.Tensor(name=value.name, dtype=names[kind.elem_type], axes=axes)


def _golden(folder: Path, names: list[str], tokenizer: Tokenizer) -> list[m.Golden]:
    sessions = [
        onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])
        for name in names
    ]
    rows = []
    for text in TEXTS:
        encoded = tokenizer.encode(*text)
        tensors = {
            "input_ids": np.array([encoded.ids]),
            "attention_mask": np.ones((1, len(encoded.ids)), np.int64),
            "token_type_ids": np.array([encoded.type_ids]),
            "threshold": np.array(0, np.float32),
            "patience": np.array(3),
            "counter": np.array([0]),
            "answer": np.array([-1]),
        }
        logits = []
        for session in sessions:
            feeds = {tensor.name: tensors[tensor.name] for tensor in session.get_inputs()}
            keys = [tensor.name for tensor in session.get_outputs()]
            result = dict(zip(keys, session.run(None, feeds), strict=True))
            tensors |= {key[:-4]: result[key] for key in keys if key.endswith("_out")}
            logits.append(result["logits"][0].tolist())
        rows.append(
            m.Golden(
                text=text,
                input_ids=encoded.ids,
                token_type_ids=encoded.type_ids,
                outputs={"logits": logits},
            )
        )
    return rows

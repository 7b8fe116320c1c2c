"""Weights: TensorFlow's files, tables of our making, our HDF5 files, and the folders around them."""

import io
import json
import os
import random
import shutil
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import h5py
import numpy as np
from hypothesis import strategies as st

from deepmac.checkpoint.facts import (
    disagreements,
    infer_embedding_kernel,
    infer_settings,
)
from deepmac.checkpoint.load import misfit_settings, open_weights
from deepmac.checkpoint.report import compare
from deepmac.config.load import load_config
from fuzzing.mutation import json_values, mutate_bytes, mutate_json, mutate_kinds
from fuzzing.target import Target
from fuzzing.targets import GOLDEN

_INDEX, _DATA, _GRAPH, _STATE, _HDF5, _OUR_INDEX, _ENTRIES = range(7)
_KEYS = ("format", "version", "variables", "dataset", "shape", "dtype", "crc32")
_VARIABLES = {
    # enough of a network for its settings to be told
    "_feature_extractor/_network/downsample_input/conv_block/conv/kernel": (7, 7, 3, 4),
    "_feature_extractor/_network/downsample_input/residual_block/conv/kernel": (
        3,
        3,
        4,
        4,
    ),
    "_feature_extractor/_network/hourglass_network/0/encoder_block2/0/conv/kernel": (
        3,
        3,
        4,
        6,
    ),
    "_feature_extractor/_network/hourglass_network/0/encoder_block2/0/skip/conv/kernel": (
        1,
        1,
        4,
        6,
    ),
    "_feature_extractor/_network/hourglass_network/0/inner_block/0/conv/kernel": (
        3,
        3,
        6,
        6,
    ),
    "_prediction_head_dict/object_center/0/layer_with_weights-0/kernel": (3, 3, 4, 5),
    "_prediction_head_dict/object_center/0/layer_with_weights-1/kernel": (1, 1, 5, 2),
    "_prediction_head_dict/INSTANCE_EMBEDDING/0/layer_with_weights-0/kernel": (
        1,
        3,
        4,
        5,
    ),
    "_prediction_head_dict/PIXEL_EMBEDDING/0/layer_with_weights-0/kernel": (1, 3, 4, 5),
    "_mask_net/_net/input_layer/kernel": (1, 1, 8, 3),
    "_mask_net/_net/fc2/bias": (16,),
}
_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"


class Checkpoints(Target):
    """A kind, and one file of a checkpoint that was whole without it."""

    name = "checkpoints"

    @classmethod
    def prepare(cls, folder: Path) -> None:
        import tensorflow as tf

        rng = np.random.default_rng(0)
        values = {n: rng.random(s, np.float32) for n, s in _VARIABLES.items()}
        whole = folder / "whole"
        root = tf.Module()
        for name, value in values.items():
            holder = root
            *above, last = f"model/{name}".split("/")
            for step in above:
                if not hasattr(holder, step):
                    setattr(holder, step, tf.Module())
                holder = getattr(holder, step)
            setattr(holder, last, tf.Variable(value))
        step = tf.Variable(7, dtype=tf.int64)
        tf.train.Checkpoint(model=root.model, step=step).save(str(whole / "ckpt"))
        with h5py.File(whole / "a.weights.h5", "w") as file:
            variables = {}
            for number, (name, value) in enumerate(values.items()):
                file[f"layers/conv/{number}"] = value
                variables[name] = {
                    "dataset": f"layers/conv/{number}",
                    "shape": list(value.shape),
                    "dtype": "float32",
                    "crc32": zlib.crc32(value.tobytes()),
                }
            index = {"format": 1, "version": "0.1.0", "variables": variables}
            _write_our_index(file, json.dumps(index).encode())

    def __init__(self, folder: Path):
        super().__init__(folder)
        self._whole = folder / "whole"
        self._place = folder / f"place-{os.getpid()}"
        shutil.copytree(self._whole, self._place, dirs_exist_ok=True)
        names = ("center_net_deepmac_tiny", "center_net_deepmac_512x512_voc_only")
        self._configs = [load_config(name) for name in names]

    def seeds(self) -> list[bytes]:
        def content(name: str) -> bytes:
            return (self._whole / name).read_bytes()

        with h5py.File(self._whole / "a.weights.h5") as file:
            index = file["deepmac_index"][()].tobytes()
        table = read_table(content("ckpt-1.index"))
        published = (
            GOLDEN / "full_hg10_roialign" / "checkpoint" / "ckpt-1.index"
        ).read_bytes()
        return [
            bytes([_INDEX]) + content("ckpt-1.index"),
            bytes([_INDEX]) + published,
            bytes([_DATA]) + content("ckpt-1.data-00000-of-00001"),
            *[bytes([_GRAPH]) + self._graph()] * 2,
            bytes([_STATE]) + content("checkpoint"),
            bytes([_HDF5]) + content("a.weights.h5"),
            *[bytes([_OUR_INDEX]) + index] * 2,
            *[bytes([_ENTRIES]) + _pack(table)] * 2,
        ]

    def mutate(self, rng: random.Random, data: bytes, other: bytes) -> bytes:
        def of_json(rng: random.Random, data: bytes, other: bytes) -> bytes:
            return mutate_json(rng, data, other, _KEYS)

        def of_entries(rng: random.Random, data: bytes, other: bytes) -> bytes:
            return _change_entries(rng, data)

        kinds = [mutate_bytes] * 5 + [of_json, of_entries]
        return mutate_kinds(rng, data, other, kinds)

    def examples(self) -> st.SearchStrategy[bytes]:
        entry = st.fixed_dictionaries(
            {
                "dataset": st.sampled_from(
                    ["layers/conv/0", "layers", "", "/", "nowhere"]
                )
                | json_values(),
                "shape": st.lists(st.integers(-1, 8), max_size=5) | json_values(),
                "dtype": st.just("float32") | json_values(),
                "crc32": st.integers(0, 2**32) | json_values(),
            }
        )
        names = st.sampled_from(sorted(_VARIABLES)) | st.text(max_size=5)
        index = st.fixed_dictionaries(
            {
                "format": st.just(1) | json_values(),
                "version": st.just("0.1.0") | json_values(),
                "variables": st.dictionaries(names, entry | json_values(), max_size=6)
                | json_values(),
            }
        )
        indices = (index | json_values()).map(
            lambda v: bytes([_OUR_INDEX]) + json.dumps(v).encode()
        )
        raw = st.tuples(st.integers(0, 6), st.binary(max_size=200)).map(
            lambda v: bytes([v[0]]) + v[1]
        )
        return indices | raw

    def check(self, data: bytes) -> str:
        kind, content = (data[0] if data else 0) % 7, data[1:]
        place = self._place
        prefix = place / "ckpt-1"
        match kind:
            case 0:
                self._put("ckpt-1.index", content)
            case 1:
                self._put("ckpt-1.data-00000-of-00001", content)
            case 2:
                self._put_graph(content)
            case 3:
                self._put("checkpoint", content)
                prefix = place
            case 4:
                self._put("a.weights.h5", content)
                prefix = place / "a.weights.h5"
            case 5:
                prefix = place / "a.weights.h5"
                with h5py.File(prefix, "r+") as file:
                    _write_our_index(file, content)
            case 6:
                self._put("ckpt-1.index", write_table(_unpack(content)))
        try:
            self._open(str(prefix))
        finally:
            for file in self._whole.iterdir():
                if file.is_file() and not _same(file, place / file.name):
                    shutil.copyfile(file, place / file.name)
        return f"accepted, kind {kind}"

    def _open(self, path: str) -> None:
        weights = open_weights(path)
        try:
            shapes = {name: stored.shape for name, stored in weights.variables.items()}
            settings = infer_settings(shapes)
            for config in self._configs:
                disagreements(settings, config)
            infer_embedding_kernel(shapes)
            misfit_settings(shapes, _VARIABLES)
            report = compare(path, shapes, _VARIABLES)
            assert report.summary()
            report.table()
            for name, shape in shapes.items():
                value = weights.read(name)
                assert value.shape == shape
        finally:
            file = getattr(weights, "_file", None)
            if file is not None:
                file.close()

    def _put(self, name: str, content: bytes) -> None:
        (self._place / name).write_bytes(content)

    def _graph(self) -> bytes:
        """The object graph as it lies in the data file: a text of this length."""
        entry = read_table((self._whole / "ckpt-1.index").read_bytes())[
            _GRAPH_KEY.encode()
        ]
        message = _entry_class().FromString(entry)
        data = (self._whole / "ckpt-1.data-00000-of-00001").read_bytes()
        stored = data[message.offset : message.offset + message.size]
        length = _read_varint(io.BytesIO(stored))
        return stored[-length:]

    def _put_graph(self, graph: bytes) -> None:
        """Another object graph, with the checksums that TensorFlow wants of a text."""
        table = read_table((self._whole / "ckpt-1.index").read_bytes())
        message = _entry_class().FromString(table[_GRAPH_KEY.encode()])
        data = (self._whole / "ckpt-1.data-00000-of-00001").read_bytes()
        lengths = _varint(len(graph))
        # The checksum of the lengths is of the number, not of its bytes in the file.
        number = struct.pack("<I" if len(graph) < 2**32 else "<Q", len(graph))
        stored = (
            lengths + struct.pack("<I", _masked(google_crc32c.value(number))) + graph
        )
        crc = google_crc32c.extend(google_crc32c.value(number), stored[len(lengths) :])
        message.offset, message.size, message.crc32c = (
            len(data),
            len(stored),
            _masked(crc),
        )
        table[_GRAPH_KEY.encode()] = message.SerializeToString()
        self._put("ckpt-1.data-00000-of-00001", data + stored)
        self._put("ckpt-1.index", write_table(table))


def _same(a: Path, b: Path) -> bool:
    return b.is_file() and a.read_bytes() == b.read_bytes()


def _write_our_index(file: Any, index: bytes) -> None:
    if "deepmac_index" in file:
        del file["deepmac_index"]
    file["deepmac_index"] = np.frombuffer(index, np.uint8)
    file["deepmac_index"].attrs["crc32"] = zlib.crc32(index)


def _entry_class() -> Any:
    from tensorflow.core.protobuf import tensor_bundle_pb2

    return tensor_bundle_pb2.BundleEntryProto


# Index files are tables of sorted keys (LevelDB's): a block of entries, an empty block of meta
# data, a block of the blocks, and a footer.

_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)


def write_table(entries: Mapping[bytes, bytes]) -> bytes:
    """A table of one block."""
    out = bytearray()

    def add(items: list[tuple[bytes, bytes]]) -> bytes:
        block = b"".join(
            _varint(0) + _varint(len(k)) + _varint(len(v)) + k + v for k, v in items
        )
        block += struct.pack("<II", 0, 1)  # one restart, at the beginning
        handle = _varint(len(out)) + _varint(len(block))
        crc = google_crc32c.value(block + b"\0")  # not packed
        out.extend(block + b"\0" + struct.pack("<I", _masked(crc)))
        return handle

    items = sorted(entries.items())
    data = add(items)
    meta = add([])
    last = items[-1][0] if items else b""
    index = add([(last + b"\0", data)])
    out.extend((meta + index).ljust(40, b"\0") + _MAGIC)
    return bytes(out)


def read_table(content: bytes) -> dict[bytes, bytes]:
    """The entries of a valid table whose blocks are not packed."""
    footer = io.BytesIO(content[-48:])
    _handle(footer)
    entries: dict[bytes, bytes] = {}
    for _, handle in _block(content, *_handle(footer)):
        entries |= dict(_block(content, *_handle(io.BytesIO(handle))))
    return entries


def _block(content: bytes, offset: int, size: int) -> list[tuple[bytes, bytes]]:
    block = content[offset : offset + size]
    (restarts,) = struct.unpack("<I", block[-4:])
    file, end = io.BytesIO(block), len(block) - 4 * (restarts + 1)
    items, key = [], b""
    while file.tell() < end:
        shared, more, length = (_read_varint(file) for _ in range(3))
        key = key[:shared] + file.read(more)
        items.append((key, file.read(length)))
    return items


def _handle(file: io.BytesIO) -> tuple[int, int]:
    return _read_varint(file), _read_varint(file)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _read_varint(file: io.BytesIO) -> int:
    number = shift = 0
    while True:
        byte = file.read(1)[0]
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return number


def _masked(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _pack(entries: Mapping[bytes, bytes]) -> bytes:
    """Entries one after the other, lengths before them: a form that fuzzers can change."""
    parts = []
    for key, value in entries.items():
        parts += [struct.pack("<HH", len(key), len(value)), key, value]
    return b"".join(parts)


def _unpack(content: bytes) -> dict[bytes, bytes]:
    entries, at = {}, 0
    while at + 4 <= len(content):
        keys, values = struct.unpack_from("<HH", content, at)
        at += 4
        entries[content[at : at + keys]] = content[at + keys : at + keys + values]
        at += keys + values
    return entries


def _change_entries(rng: random.Random, content: bytes) -> bytes:
    entries = _unpack(content)
    if not entries:
        return mutate_bytes(rng, content, b"")
    key = rng.choice(list(entries))
    message = _entry_class()()
    try:
        message.ParseFromString(entries[key])
    except Exception:
        return mutate_bytes(rng, content, b"")
    match rng.randrange(9):
        case 0:
            message.dtype = rng.randrange(0, 40)
        case 1:
            message.offset = rng.choice(
                (0, 1, -1, 2**40, 2**63 - 1, message.offset + 1)
            )
        case 2:
            message.size = rng.choice((0, 1, -1, 2**40, 2**63 - 1, message.size + 1))
        case 3 | 4:
            del message.shape.dim[rng.randrange(len(message.shape.dim) + 1) :]
            for _ in range(rng.randrange(3)):
                message.shape.dim.add(size=rng.choice((0, 1, -1, 3, 2**31, 2**62)))
        case 5:
            message.shard_id = rng.choice((1, -1, 7))
        case 6:
            entries[rng.choice((b"model/" + key, b"", b"a", b"\xff", key + b"/x"))] = (
                entries[key]
            )
            del entries[key]
            return _pack(entries)
        case 7:
            del entries[key]
            return _pack(entries)
        case _:
            entries[key] = mutate_bytes(
                rng, entries[key], entries[rng.choice(list(entries))]
            )
            return _pack(entries)
    entries[key] = message.SerializeToString()
    return _pack(entries)

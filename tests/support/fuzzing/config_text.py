"""Configurations and overrides, and label maps."""

import random
import re
import warnings
from pathlib import Path

from hypothesis import strategies as st

from deepmac.config.label_map import LabelMap, load_label_map
from deepmac.config.load import ConfigWarning, load_config
from deepmac.config.message import Message, fields_of
from deepmac.config.printing import to_text
from deepmac.config.schema import PipelineConfig
from deepmac.config.textproto import read
from deepmac.errors import DeepmacError
from fuzzing.mutation import mutate_bytes
from fuzzing.target import Target, require_one_line

_CONFIGS = Path(__file__).parents[3] / "configs"
_LABEL_MAP = b'item { id: 1 name: "/m/01g317" display_name: "person" }\nitem { id: 2 name: "b" }\n'
_OVERRIDES = (
    "model.center_net.num_classes=5",
    "train_config.optimizer.adam_optimizer.epsilon=1e-7",
    "eval_input_reader[0].shuffle=true",
    "model.center_net.deepmac_mask_estimation.allowed_masked_classes_ids=[1, 2]",
    "model.center_net.deepmac_mask_estimation={ dim: 3 }",
    "train_input_reader.tf_record_input_reader.input_path=a",
)
_VALUES = (
    *[
        "0",
        "-1",
        "1",
        "1e9",
        "-0",
        "1e400",
        "nan",
        "-inf",
        "2147483648",
        "9223372036854775808",
        "18446744073709551616",
        "0x7f",
        "017",
        "1.5",
    ],
    *[
        "true",
        "false",
        "TRUE",
        "t",
        "SSD_HOURGLASS",
        "'a'",
        '"b"',
        "'\\xff'",
        "'\\377'",
        '"\\ud800"',
        "''",
        "{}",
        "<>",
        "[]",
        "[1,2]",
        "{",
        "}",
    ],
    *(
        "{ dim: 1 }",
        "[{ dim: 1 }]",
        "[1, [2]]",
        "# no",
        '"open',
        "'a' 'b'",
        "\x85",
        "\u2028",
        "é",
        "\0",
    ),
)


def _names(cls: type[Message]) -> set[str]:
    found = set()
    for field in fields_of(cls):
        found.add(field.name)
        if field.is_message:
            found |= _names(field.kind)
    return found


_NAMES = sorted(_names(PipelineConfig) | _names(LabelMap))
_WORD = re.compile(r"\w+|\"[^\"\n]*\"|'[^'\n]*'|[^\w\s]")


class ConfigText(Target):
    """Text of a configuration, and after each null character an override."""

    name = "config"

    def seeds(self) -> list[bytes]:
        tiny = (_CONFIGS / "center_net_deepmac_tiny.config").read_bytes()
        whole = (_CONFIGS / "center_net_deepmac_512x512_voc_only.config").read_bytes()
        overridden = [tiny + b"\0" + o.encode() for o in _OVERRIDES]
        # The short one most often: it is read ten times as fast.
        return [tiny, *overridden, _LABEL_MAP, whole, _LABEL_MAP + tiny]

    def mutate(self, rng: random.Random, data: bytes, other: bytes) -> bytes:
        if rng.random() < 0.15:
            return mutate_bytes(rng, data, other)
        text = data.decode("utf-8", "surrogateescape")
        for _ in range(1 << rng.randrange(3)):
            text = _change_text(rng, text)
        return text.encode("utf-8", "surrogatepass")

    def examples(self) -> st.SearchStrategy[bytes]:
        value = (
            st.sampled_from(_VALUES) | st.integers().map(str) | st.floats().map(repr)
        )
        name = st.sampled_from(_NAMES) | st.text(max_size=4)
        line = st.tuples(name, st.sampled_from([": ", " ", ""]), value).map("".join)
        lines = st.recursive(
            st.lists(line, max_size=4).map("\n".join),
            lambda inner: st.tuples(name, inner).map(
                lambda v: f"{v[0]} {{\n{v[1]}\n}}"
            ),
            max_leaves=6,
        )
        nested = lines.map(lambda text: f"model {{ center_net {{ {text} }} }}")
        path = st.lists(name, min_size=1, max_size=4).map(".".join)
        override = st.tuples(path | st.sampled_from(_OVERRIDES), value).map("=".join)
        overrides = st.lists(override, max_size=2).map(
            lambda o: "".join("\0" + x for x in o)
        )
        texts = st.tuples(lines | nested, overrides).map("".join)
        return texts.map(lambda text: text.encode("utf-8", "surrogatepass"))

    def check(self, data: bytes) -> str:
        path = self.folder / "fuzzed.config"
        text, *overrides = data.split(b"\0")
        path.write_bytes(text)
        is_map = self._reads(lambda: load_label_map(path))
        lenient = self._reads(lambda: load_config(path, lenient=True))
        given = [o.decode("utf-8", "surrogateescape") for o in overrides]
        config = load_config(path, given)
        # Written out and read again it is the same, fields that were set included.
        again = read(to_text(config), PipelineConfig, "again").build()
        assert again == config
        assert to_text(again) == to_text(config)
        assert lenient or given, "read strictly but not leniently"
        return "both" if is_map else "accepted"

    @staticmethod
    def _reads(load) -> bool:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConfigWarning)  # of fields left out
                load()
        except DeepmacError as e:
            require_one_line(e)
            return False
        return True


def _change_text(rng: random.Random, text: str) -> str:
    words = list(_WORD.finditer(text))
    if not words:
        return rng.choice(_VALUES)
    word = rng.choice(words)
    before, after = text[: word.start()], text[word.end() :]
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    match rng.randrange(11):
        case 0 | 1 | 2:
            return before + rng.choice(_VALUES) + after
        case 3 | 4:
            return before + rng.choice(_NAMES) + after
        case 5:
            return before + after
        case 6:
            return "\n".join([*lines[:at], *lines[at + 1 :]])
        case 7:
            there = rng.randrange(len(lines))
            return "\n".join([*lines[:at], lines[there], *lines[at:]])
        case 8:
            line = f"{rng.choice(_NAMES)}: {rng.choice(_VALUES)}"
            return "\n".join([*lines[:at], line, *lines[at:]])
        case 9:
            path = ".".join(rng.choices(_NAMES, k=rng.randrange(1, 4)))
            override = rng.choice((path, *(o.split("=")[0] for o in _OVERRIDES)))
            return f"{text}\0{override}={rng.choice(_VALUES)}"
        case _:
            opening = rng.choice(
                (f"{rng.choice(_NAMES)} {{ ", "model { ", "[", "{", "<")
            )
            return before + opening * rng.choice((1, 3, 200)) + after

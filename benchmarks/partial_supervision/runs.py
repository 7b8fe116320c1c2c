"""The runs of the experiment, by name, and their configurations. See PROTOCOL.md."""

import dataclasses
import hashlib
from pathlib import Path

from benchmarks.partial_supervision.data import Place
from deepmac.config.load import build_config, open_config
from deepmac.config.printing import lines_of
from deepmac.errors import OptionError, did_you_mean

BASE = Path(__file__).parent / "base.config"
STEPS = 1500
"""Of every run. PROTOCOL.md, section 2."""

LONG_STEPS = 3000
"""Of the runs that ask what the budget held back. PROTOCOL.md, changes after the first run."""

PILOT_STEPS = 375
"""Of the runs that choose the learning rates."""

MASK_SLOTS = 8
"""Instances of an image whose masks train; see `deepmac train --mask_slots`."""

WIDTHS = {
    "fully_connected": 8,
    "resnet4": 16,
    "hourglass10": 16,
    "hourglass20": 16,
    "hourglass52": 8,
}
"""Mask head to its `num_init_channels`."""

DEPTHS = {"resnet4": 4, "hourglass10": 10, "hourglass20": 20, "hourglass52": 52}
"""Of the convolutional heads: x of the chart."""

PILOT_RATES = (1e-3, 3e-3)
PILOT_HEADS = ("fully_connected", "resnet4", "hourglass20")
RATES = {
    "fully_connected": 1e-3,
    "resnet4": 3e-3,
    "hourglass10": 1e-3,
    "hourglass20": 1e-3,
    "hourglass52": 1e-3,
}
"""Mask head to its learning rate; from the pilots, before the runs."""

_MASKS = "model.center_net.deepmac_mask_estimation"
_COSINE = (
    "train_config.optimizer.adam_optimizer.learning_rate.cosine_decay_learning_rate"
)
_INPUT = "train_input_reader.tf_record_input_reader.input_path"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training run.

    Attributes:
        train_set: `shapes`, `stamps` or `both`.
        supervision: masks of the `seen` categories, or of `all` (the oracle).
        head: of `WIDTHS`.
        seed: number of the split, and of the initial weights and the order of the data.
        rate: of learning.
        num_steps: of training.
        is_pilot: chooses a learning rate, on the validation part alone.
    """

    train_set: str
    supervision: str = "seen"
    head: str = "hourglass20"
    seed: int
    rate: float
    num_steps: int = STEPS
    is_pilot: bool = False

    @property
    def group(self) -> str:
        """What the runs that differ in their seed have in common."""
        group = f"{self.train_set}-{self.supervision}-{self.head}"
        return group if self.num_steps == STEPS else f"{group}-{self.num_steps}"

    @property
    def name(self) -> str:
        if self.is_pilot:
            return f"pilot-{self.head}-{self.rate:g}"
        return f"{self.group}-{self.seed}"


def all_runs() -> dict[str, Run]:
    """Every run of the protocol by name, in the order in which they are worth most."""
    runs = [
        Run(
            train_set="stamps",
            head=head,
            seed=0,
            rate=rate,
            num_steps=PILOT_STEPS,
            is_pilot=True,
        )
        for head in PILOT_HEADS
        for rate in PILOT_RATES
    ]
    wanted = [
        ("stamps", "seen", "hourglass20", (0, 1, 2)),
        ("both", "seen", "hourglass20", (0, 1, 2)),
        ("stamps", "seen", "fully_connected", (0, 1, 2)),
        ("stamps", "seen", "resnet4", (0, 1, 2)),
        ("shapes", "seen", "hourglass20", (0, 1, 2)),
        ("stamps", "all", "hourglass20", (0, 1, 2)),
        ("stamps", "seen", "hourglass52", (0,)),
        ("both", "seen", "hourglass20", (0, 1, 2), LONG_STEPS),
        ("shapes", "seen", "hourglass20", (0, 1, 2), LONG_STEPS),
        ("shapes", "seen", "fully_connected", (0, 1, 2)),
        ("shapes", "seen", "resnet4", (0, 1, 2)),
        ("stamps", "seen", "hourglass10", (0, 1, 2)),
        ("shapes", "all", "hourglass20", (0, 1, 2)),
    ]
    for train_set, supervision, head, seeds, *steps in wanted:
        for seed in seeds:
            runs.append(
                Run(
                    train_set=train_set,
                    supervision=supervision,
                    head=head,
                    seed=seed,
                    rate=RATES[head],
                    num_steps=steps[0] if steps else STEPS,
                )
            )
    return {run.name: run for run in runs}


def find_run(name: str) -> Run:
    """A run of the protocol.

    Raises:
        OptionError: there is none of that name.
    """
    runs = all_runs()
    if name not in runs:
        hint = did_you_mean(name, runs) or "; --list shows them"
        raise OptionError(f"no run '{name}'{hint}")
    return runs[name]


def overrides(run: Run) -> list[str]:
    """What the run changes in `base.config`, but for where the records are."""
    return [
        f"{_MASKS}.network_type={run.head}",
        f"{_MASKS}.num_init_channels={WIDTHS[run.head]}",
        f"train_config.num_steps={run.num_steps}",
        f"{_COSINE}.learning_rate_base={run.rate:g}",
        f"{_COSINE}.total_steps={run.num_steps}",
        f"{_COSINE}.warmup_learning_rate={run.rate / 10:g}",
        f"{_COSINE}.warmup_steps={run.num_steps // 20}",
    ]


def config_text(run: Run, root: Path | None = None) -> str:
    """The run's configuration file.

    Args:
        run: which.
        root: the folder of the data; None leaves the place of the records open.
    """
    changes = overrides(run)
    if root is not None:
        records = Place(root, run.train_set, run.seed).records(run.supervision)
        changes.append(f"{_INPUT}={records}/train-*.tfrecord")
    config = build_config(open_config(BASE, changes))
    return "".join(f"{line.text}\n" for line in lines_of(config, with_defaults=False))


def config_digest(run: Run) -> str:
    """Tells one configuration from another, wherever the data lie."""
    return hashlib.sha256(config_text(run).encode()).hexdigest()[:16]

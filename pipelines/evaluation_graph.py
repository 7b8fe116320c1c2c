"""The evaluation on Beam: units are matched wherever the workers are, then merged by category."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam import coders
from apache_beam.coders.typecoders import registry

from deepmac.evaluation.detections import Form
from deepmac.evaluation.engine import match_results
from deepmac.evaluation.parameters import Parameters
from deepmac.evaluation.state import Partial, by_category, merge
from deepmac.stage_times import StageTimes
from pipelines.beam_metrics import tell
from pipelines.evaluation_units import UnitReader
from pipelines.launch import telling_why
from pipelines.observation import COMMITTED
from pipelines.storage import Output, open_output
from pipelines.truth_store import TruthStore, open_truths

_MERGE_AT = 32  # partial results kept apart before they are merged
_FANOUT = 8  # parts in which a category is merged first


@dataclasses.dataclass(eq=False)
class EvaluateMasks(beam.PTransform):
    """PCollection[str] -> PCollection[(int, Partial)]: names of units -> `state.by_category` of all.

    Each category is merged on its own, first in `_FANOUT` parts, so that neither one worker has
    it all nor a frequent category holds up the rest. `merge` of the pieces has the detections of
    all units; `engine.conclude` makes the figures of it. Nothing else crosses from worker to
    worker. There is no output without units.

    Attributes:
        out: directory of the job that `truth_store.write_truths` has written to.
        truths: name of the ground truth there.
        reader: gives the results of a unit.
        form: of the results, see `detections.form_of`.
        parameters: of the evaluation.

    Counters: `units_committed`, `results` read, `detections` kept, `state_bytes` that go on to merging.
    Distributions, for each unit: `read_us`, `match_us`; for each merge: `merge_us`.
    """

    out: str
    truths: str
    reader: UnitReader
    form: Form
    parameters: Parameters

    def expand(self, units):
        merged: Any = beam.CombinePerKey(MergePartials(self.out, self.truths))
        return (
            units
            | "Match" >> beam.ParDo(_Match(self)).with_output_types(tuple[int, Partial])
            | "Merge" >> merged.with_hot_key_fanout(_FANOUT)
        )


class _Match(beam.DoFn):
    def __init__(self, job: EvaluateMasks):
        self._job = job

    def setup(self) -> None:
        self._store = _open(self._job.out, self._job.truths)

    def process(self, unit: str) -> Iterator[tuple[int, Partial]]:
        job, store, times = self._job, self._store, StageTimes()
        with telling_why(f"unit {unit}"):
            with times.of("read"):
                results = job.reader.read(unit)
            with times.of("match"):
                partial = match_results(
                    results,
                    job.form,
                    store,
                    store.known,
                    job.parameters,
                    name=unit,
                )
                pieces = list(by_category(partial))
        counters = {
            COMMITTED: 1,
            "results": partial.counts["results"],
            "detections": len(partial.score),
            "state_bytes": sum(piece.nbytes for _, piece in pieces),
        }
        tell(counters, times)
        yield from pieces


class MergePartials(beam.CombineFn):
    """Merges partial results, a number of them at a time; any grouping gives the same figures."""

    def __init__(self, out: str, truths: str):
        self._out, self._truths = out, truths

    def setup(self) -> None:
        self._image_ids = _open(self._out, self._truths).scope.image_ids

    def create_accumulator(self) -> list[Partial]:
        return []

    def add_input(self, accumulator: list[Partial], element: Partial) -> list[Partial]:
        return self._compacted([*accumulator, element])

    def merge_accumulators(
        self, accumulators: Iterable[list[Partial]]
    ) -> list[Partial]:
        return self._compacted([p for some in accumulators for p in some])

    def extract_output(self, accumulator: list[Partial]) -> Partial:
        return self._merged(accumulator)

    def get_accumulator_coder(self) -> coders.Coder:
        return coders.IterableCoder(PartialCoder())

    def _compacted(self, partials: list[Partial]) -> list[Partial]:
        return partials if len(partials) < _MERGE_AT else [self._merged(partials)]

    def _merged(self, partials: list[Partial]) -> Partial:
        times = StageTimes()
        with telling_why("merging"), times.of("merge"):
            merged = merge(partials, self._image_ids)
        tell({}, times)
        return merged


class PartialCoder(coders.Coder):
    """`Partial.to_bytes` on the wire."""

    def encode(self, value: Partial) -> bytes:
        return value.to_bytes()

    def decode(self, encoded: bytes) -> Partial:
        return Partial.from_bytes(encoded)

    def is_deterministic(self) -> bool:
        return False

    def to_type_hint(self) -> type:
        return Partial


registry.register_coder(Partial, PartialCoder)


class WriteStates(beam.PTransform):
    """PCollection[(int, Partial)] -> nothing; a folder of the job's directory holds them."""

    def __init__(self, out: str, folder: str):
        super().__init__()
        self._out, self._folder = out, folder

    def expand(self, pieces):
        return pieces | "Write" >> beam.MapTuple(self._write)

    def _write(self, category: int, partial: Partial) -> None:
        with telling_why("writing"):
            name = f"{self._folder}/{category}"
            open_output(self._out).write(name, partial.to_bytes())


def read_states(output: Output, folder: str) -> list[Partial]:
    """What `WriteStates` has written."""
    pieces = [output.read(f"{folder}/{name}") for name in output.sizes(folder)]
    return [Partial.from_bytes(piece) for piece in pieces if piece is not None]


@functools.lru_cache(maxsize=4)
def _open(out: str, truths: str) -> TruthStore:
    return open_truths(open_output(out), truths)

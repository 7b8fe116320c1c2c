"""Where an evaluation runs: in this process, in several of this machine, or on Beam's workers.

All give the same figures bit by bit.
"""

import dataclasses
import gc
import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import ClassVar

from deepmac.data.files import absolute
from deepmac.errors import DataError
from deepmac.evaluation.engine import Results, conclude, evaluate, match_results
from deepmac.evaluation.results_file import ResultsFile, Scattered
from deepmac.evaluation.state import Partial
from deepmac.evaluation.summary import Evaluation
from deepmac.stage_times import StageTimes
from pipelines.evaluation_inputs import Task
from pipelines.evaluation_units import SpilledUnits, UnitReader, spill
from pipelines.observation import COMMITTED, Observation
from pipelines.storage import Output
from pipelines.truth_store import write_truths


def evaluate_here(
    task: Task, output: Output, *, unit_images: int, num_processes: int
) -> tuple[Evaluation, Observation]:
    """The evaluation on this machine, and what was seen of it.

    Args:
        task: to do.
        output: with room for what is sorted.
        unit_images: images in a unit of a results file, where it must be sorted.
        num_processes: that match. With more than one, a results file is sorted into units first.
    """
    if num_processes == 1 and isinstance(task.source, ResultsFile):
        try:
            return _evaluated(task, task.source.in_order())
        except Scattered:
            pass  # to be sorted first
    with output.temporary_folder() as folder:
        reader, units = _units(task, output, folder, unit_images)
        if num_processes == 1:
            return _evaluated(task, (reader.read(unit) for unit in units))
        times = StageTimes()
        partials = _Worker.matched(task, reader, units, num_processes, times)
        num_results = sum(partial.counts["results"] for partial in partials)
        with times.of("figures"):
            evaluation = conclude(
                task.ground_truth, partials, task.parameters, task.counts, units
            )
        return evaluation, _observed(task, evaluation, num_results, times)


def evaluate_on_beam(
    tasks: Sequence[Task],
    output: Output,
    beam_args: Sequence[str],
    *,
    unit_images: int,
    verbose: bool,
) -> tuple[dict[str, Evaluation], Observation]:
    """The evaluations, by what is compared, with matching and merging on Beam's workers."""
    import apache_beam as beam

    from pipelines import dataflow
    from pipelines.beam_metrics import gather
    from pipelines.evaluation_graph import EvaluateUnits, WriteStates, read_states
    from pipelines.launch import parse_beam_args, run_pipeline, stop_at_once

    out = output.root
    with output.temporary_folder() as folder:
        sources = []
        for task in tasks:
            name = f"{folder}/truth-{task.parameters.iou_type}"
            write_truths(output, name, task.ground_truth, task.known)
            sources.append(_units(task, output, folder, unit_images))

        def build(pipeline: beam.Pipeline) -> None:
            for task, (reader, units) in zip(tasks, sources, strict=True):
                kind = task.parameters.iou_type
                evaluation = EvaluateUnits(
                    out, f"{folder}/truth-{kind}", reader, task.form, task.parameters
                )
                _ = (
                    pipeline
                    | f"Units ({kind})" >> beam.Create(units)
                    | f"Evaluate ({kind})" >> evaluation
                    | f"Write ({kind})" >> WriteStates(out, f"{folder}/{kind}")
                )

        beam_options = parse_beam_args(beam_args)
        with stop_at_once(lambda: "there are no figures yet"):
            result = run_pipeline(beam_options, build, verbose=verbose)
        dataflow.leave(beam_options)
        evaluations, observed = {}, gather(result, of_units=False)
        for task, (_, units) in zip(tasks, sources, strict=True):
            kind = task.parameters.iou_type
            partials, times = read_states(output, f"{folder}/{kind}"), StageTimes()
            with times.of("figures"):
                evaluations[kind] = conclude(
                    task.ground_truth, partials, task.parameters, task.counts, units
                )
            truths = {"ground_truths": len(task.ground_truth)}
            observed += Observation.of(truths, times)
    return evaluations, observed


def _units(
    task: Task, output: Output, folder: str, unit_images: int
) -> tuple[UnitReader, Sequence[str]]:
    """The results' units; those of a file are sorted out into a folder."""
    if isinstance(task.source, ResultsFile):
        prefix = f"{folder}/{task.parameters.iou_type}-"
        units = spill(task.source, output, prefix, task.known, unit_images)
        return SpilledUnits(task.source.path, output), units
    reader = task.source.reader
    reader = dataclasses.replace(reader, path=absolute(reader.path))
    return reader, task.source.units


def _evaluated(task: Task, units: Iterable[Results]) -> tuple[Evaluation, Observation]:
    times, sizes = StageTimes(), []
    started = time.perf_counter_ns()
    evaluation = evaluate(
        task.ground_truth,
        task.known,
        _timed(units, times, sizes),
        task.form,
        task.parameters,
        task.counts,
    )
    spent = 1000 * sum(sum(values) for _, values in times)
    times.note("figures", time.perf_counter_ns() - started - spent)
    return evaluation, _observed(task, evaluation, sum(sizes), times)


def _timed(
    units: Iterable[Results], times: StageTimes, sizes: list[int]
) -> Iterator[Results]:
    """The same units; what the one who takes them does between two of them is matching."""
    source = iter(units)
    while True:
        started = time.perf_counter_ns()
        unit = next(source, None)
        if unit is None:
            return
        read = time.perf_counter_ns()
        sizes.append(len(unit[0]))
        yield unit
        times.note("read", read - started)
        times.note("match", time.perf_counter_ns() - read)


def _observed(
    task: Task, evaluation: Evaluation, num_results: int, times: StageTimes
) -> Observation:
    counters = {
        COMMITTED: len(dict(times).get("match", ())),
        "ground_truths": len(task.ground_truth),
        "results": num_results,
        "detections": len(evaluation.partial.score),
        "state_bytes": evaluation.partial.nbytes,
    }
    return Observation.of(counters, times)


class _Worker:
    """What a process that matches knows: set once, when it starts."""

    _task: ClassVar[Task]
    _reader: ClassVar[UnitReader]

    @classmethod
    def matched(
        cls,
        task: Task,
        reader: UnitReader,
        units: Sequence[str],
        num_processes: int,
        times: StageTimes,
    ) -> list[Partial]:
        """What the units contribute, matched by several processes; notes how long it took."""
        # A forked process has the ground truth without a copy, if no collector goes through it.
        gc.freeze()
        start = "fork" if sys.platform == "linux" else "spawn"
        pool = ProcessPoolExecutor(
            num_processes,
            multiprocessing.get_context(start),
            cls._start,
            (task, reader),
        )
        try:
            with pool:
                partials = []
                for partial, read, match in pool.map(cls._match, units):
                    partials.append(partial)
                    times.note("read", read)
                    times.note("match", match)
                return partials
        except BrokenProcessPool:
            raise DataError(
                "a process that matches was ended from outside, as the system does where memory "
                "runs out; try fewer with --num_processes"
            ) from None
        finally:
            gc.unfreeze()

    @classmethod
    def _start(cls, task: Task, reader: UnitReader) -> None:
        cls._task, cls._reader = task, reader

    @classmethod
    def _match(cls, unit: str) -> tuple[Partial, int, int]:
        """What a unit contributes; nanoseconds of reading and of matching."""
        started = time.perf_counter_ns()
        task, results = cls._task, cls._reader.read(unit)
        read = time.perf_counter_ns()
        partial = match_results(
            results,
            task.form,
            task.ground_truth,
            task.known,
            task.parameters,
            name=unit,
        )
        return partial, read - started, time.perf_counter_ns() - read

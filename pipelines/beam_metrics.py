"""Observations on Beam: workers tell them as metrics, whatever the runner, and the launcher gathers."""

import functools
import logging
from collections.abc import Mapping
from typing import Any

from apache_beam.metrics.execution import MetricResult
from apache_beam.metrics.metric import Metrics, MetricsFilter
from apache_beam.runners.runner import PipelineResult

from deepmac.stage_times import StageTimes
from pipelines.observation import COMMITTED, Distribution, Observation, time_name
from pipelines.unit_task import UnitDone

NAMESPACE = "deepmac"

# They find the bundle that is being done each time they are used.
_counter = functools.cache(functools.partial(Metrics.counter, NAMESPACE))
_distribution = functools.cache(functools.partial(Metrics.distribution, NAMESPACE))


def tell(counters: Mapping[str, int], times: StageTimes) -> None:
    """Adds to the metrics of the bundle that is being done."""
    for name, number in counters.items():
        if number:
            _counter(name).inc(number)
    for stage, values in times:
        update = _distribution(time_name(stage)).update
        for value in values:
            update(value)


def tell_unit(done: UnitDone) -> None:
    """Adds a unit that this worker has committed."""
    letters = {
        f"dead_letters.{stage}.{reason}": number
        for (stage, reason), number in done.reasons.items()
    }
    own = {COMMITTED: 1, "bytes": done.num_bytes}
    tell({**done.counts, **letters, **own}, done.times)


def gather(result: PipelineResult, *, of_units: bool) -> Observation:
    """What the workers told, as far as the runner passes it on; empty if it does not.

    Args:
        result: of the pipeline, which has ended.
        of_units: all was told by `tell_unit`. Then what a bundle told counts also if the runner
            did the bundle again: whoever did it again found the unit committed and told nothing.
    """
    try:
        wanted = MetricsFilter().with_namespace(NAMESPACE)
        found = result.metrics().query(wanted)
        seen = Observation()
        for metric in found.get("counters", ()):
            number = _value(metric, of_units)
            seen += Observation(counters={metric.key.metric.name: number or 0})
        for metric in found.get("distributions", ()):
            told = _value(metric, of_units)
            if told is not None and told.count:
                figures = Distribution(told.count, told.sum, told.min, told.max)
                name = metric.key.metric.name
                seen += Observation(distributions={name: figures})
        return seen
    except Exception as e:  # of any runner: no job fails for want of figures about it
        logging.getLogger(__name__).info("the runner gives no metrics: %s", e)
        return Observation()


def _value(metric: MetricResult, attempted: bool) -> Any:
    """A metric's value, of which many a runner knows one kind only; None if it knows neither."""
    values = (metric.attempted, metric.committed)
    first, second = values if attempted else values[::-1]
    return second if first is None else first

"""What a large job costs on paper, from measured unit costs: which unit size, how long, how many requests.

    python -m benchmarks.scale

Nothing is run. The figures that go in are those of benchmarks/README.md, of one machine; the model
is in docs/scale.md. Prints Markdown.
"""

import dataclasses
import math
import sys

START = 120.0  # seconds from the loss of a worker to the first image of the next: machine, image, model
PREEMPTED_PER_HOUR = 0.05  # of the workers
SLOWEST = 3.0  # times as long as others a straggler takes for a unit
REQUEST = 0.05  # seconds, of storage in the same region
READING = 8  # images that a worker asks for at a time
READS_PER_SECOND, WRITES_PER_SECOND = (
    5000,
    1000,
)  # of a bucket, before it has grown with the load
READS_OF_UNIT, WRITES_OF_UNIT = 3, 5  # requests, removals aside: docs/storage.md
OF_WORKER = 8  # of the eleven in all, one after the other
MOST_UNITS = 99_999  # names have five digits


@dataclasses.dataclass(frozen=True)
class Work:
    """What is done to an image.

    Attributes:
        name: of the row.
        seconds: CPU seconds of one core.
        reads: requests for images; none where they come in shards.
    """

    name: str
    seconds: float
    reads: float = 1


WORKS = (
    Work("`build`", 1 / 514),
    Work("`label`, 512, float32", 6.1),
    Work("`label`, 512, bfloat16", 3.1),
    Work("`label`, 1024, float32", 20.5),
    Work("`label`, 1024, bfloat16", 10.3),
    Work("`label` of shards, 512, bfloat16", 3.1, 0),
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A job on paper.

    Attributes:
        num_units: of it.
        hours: on the clock.
        lost: share of the workers' time that goes into units begun and lost, and into starts.
        tail: share of the time in which some workers have nothing left to do.
        overhead: share of the time of a unit that is not spent on images.
        requests_per_second: of all workers together, while they work.
        is_throttled: the bucket, not the workers, sets the pace.
    """

    num_units: int
    hours: float
    lost: float
    tail: float
    overhead: float
    requests_per_second: float
    is_throttled: bool


def plan(work: Work, num_images: int, num_workers: int, unit_images: int) -> Plan:
    """What a job comes to with workers of one core.

    A worker that is lost takes half a unit with it, and its place is empty for `START`. At the end
    a worker waits for half a unit on average, and the job for its last unit, which a straggler may
    have.
    """
    num_units = math.ceil(num_images / unit_images)
    image = max(work.seconds, work.reads * REQUEST / READING)
    overhead = OF_WORKER * REQUEST
    unit = unit_images * image + overhead
    lost = min(PREEMPTED_PER_HOUR / 3600 * (unit / 2 + START), 0.99)
    reads = num_units * READS_OF_UNIT + num_images * work.reads
    writes = num_units * WRITES_OF_UNIT
    rounds = math.ceil(num_units / num_workers)
    working = rounds * unit / (1 - lost)
    allowed = max(reads / READS_PER_SECOND, writes / WRITES_PER_SECOND)
    busy = max(working, allowed)
    total = busy + unit * (SLOWEST - 1) + START
    even = max(num_images * image / num_workers / (1 - lost), allowed)
    return Plan(
        num_units=num_units,
        hours=total / 3600,
        lost=lost,
        tail=1 - even / total,
        overhead=overhead / unit,
        requests_per_second=(reads + writes) / busy,
        is_throttled=allowed > working,
    )


def best_size(work: Work, num_images: int, num_workers: int) -> int:
    """The power of two of images in a unit with which the job ends first."""
    least = max(math.ceil(num_images / MOST_UNITS), 1)
    sizes = [2**k for k in range(15) if 2**k >= least]
    return min(sizes, key=lambda n: plan(work, num_images, num_workers, n).hours)


def main() -> int:
    print(
        "| | images | workers | images in a unit | units | hours | tail | lost | requests' share | "
        "requests/s |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    )
    for num_images in (10**6, 10**8):
        for num_workers in (100, 2000):
            for work in WORKS:
                size = best_size(work, num_images, num_workers)
                found = plan(work, num_images, num_workers, size)
                print(
                    f"| {work.name} | {num_images:,} | {num_workers:,} | {size:,} | "
                    f"{found.num_units:,} | {found.hours:,.2f} | {found.tail:.1%} | "
                    f"{found.lost:.2%} | {found.overhead:.1%} | "
                    f"{found.requests_per_second:,.0f}{' (quota)' * found.is_throttled} |"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())

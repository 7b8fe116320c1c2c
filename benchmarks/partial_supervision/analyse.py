"""The result files -> tables, paired differences and the chart of README.md.

    python -m benchmarks.partial_supervision.analyse [--results DIR] [--out DIR]

Needs no data: results hold the IoU of every instance. README.md is written anew between its two
marks, the text around them is left alone.
"""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.partial_supervision import chart, runs, statistics
from benchmarks.partial_supervision.score import GROUPS, RESULTS, Instances
from deepmac.errors import DataError, DeepmacError

HERE = Path(__file__).parent
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
SETS = ("stamps", "shapes")
BASELINES = ("box", "ellipse", "grabcut")
BEST = "hourglass20"
CHART = "depth.svg"
LEVELS = {
    "ellipse": "ellipse",
    "GrabCut": "grabcut",
    "fully connected": "stamps-seen-fully_connected",
    "all masks (20)": f"stamps-all-{BEST}",
}
"""Dashed lines of the chart: label to group of results."""

PAIRS = (
    (f"stamps-seen-{BEST}", "grabcut"),
    (f"stamps-seen-{BEST}", "stamps-seen-fully_connected"),
    (f"stamps-seen-{BEST}", "stamps-seen-resnet4"),
    (f"stamps-seen-{BEST}", "stamps-seen-hourglass10"),
    ("stamps-seen-hourglass52", f"stamps-seen-{BEST}"),
    (f"stamps-all-{BEST}", f"stamps-seen-{BEST}"),
    (f"both-seen-{BEST}", f"stamps-seen-{BEST}"),
    (f"both-seen-{BEST}", "grabcut"),
    (f"both-seen-{BEST}-{runs.LONG_STEPS}", f"both-seen-{BEST}"),
    (f"both-seen-{BEST}-{runs.LONG_STEPS}", "grabcut"),
    (f"shapes-seen-{BEST}", "grabcut"),
    (f"shapes-seen-{BEST}", "ellipse"),
    (f"shapes-seen-{BEST}-{runs.LONG_STEPS}", f"shapes-seen-{BEST}"),
    (f"shapes-seen-{BEST}-{runs.LONG_STEPS}", "grabcut"),
    (f"shapes-seen-{BEST}-{runs.LONG_STEPS}", "ellipse"),
    (f"shapes-seen-{BEST}", "shapes-seen-fully_connected"),
    (f"shapes-seen-{BEST}", "shapes-seen-resnet4"),
    (f"shapes-all-{BEST}", f"shapes-seen-{BEST}"),
)
"""Differences that the protocol asks for: the first less the second."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One result file.

    Attributes:
        group: what results of several seeds have in common: a baseline's name, or `Run.group`.
        seed: number of the split.
        facts: the file without the tests.
        tests: by name of the set, as `score.summarise` made them.
    """

    group: str
    seed: int
    facts: Mapping[str, Any]
    tests: Mapping[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Pooled:
    """The instances of one group of categories in the test sets of several seeds.

    Attributes:
        iou: float [N].
        clusters: N.
        seed_means: mean IoU for each seed.
        aps: mask AP for each seed.
    """

    iou: np.ndarray
    clusters: Sequence[str]
    seed_means: Sequence[float]
    aps: Sequence[float]


def read_results(folder: Path) -> tuple[list[Result], dict[tuple[str, int], Instances]]:
    """All results, and the test sets they are about.

    Raises:
        DataError: a result is about other instances than those described beside it.
    """
    instances = {}
    for path in sorted((folder / "instances").glob("*.json")):
        value = orjson.loads(path.read_bytes())
        names, categories = value["cluster_names"], np.array(value["category_ids"])
        instances[value["set"], value["seed"]] = Instances(
            set_name=value["set"],
            seed=value["seed"],
            digest=value["digest"],
            category_ids=categories,
            is_seen=np.isin(categories, value["seen_category_ids"]),
            clusters=[names[i] for i in value["clusters"]],
        )
    by_key: dict[tuple[str, int], Result] = {}
    for path in sorted(folder.glob("*.json")):
        facts = orjson.loads(path.read_bytes())
        tests = {t["set"]: t for t in facts.pop("tests") if "iou" in t}
        if not tests:
            continue  # a pilot
        for name, test in tests.items():
            known = instances.get((name, test["seed"]))
            if known is None or known.digest != test["instances_digest"]:
                raise DataError(
                    f"{path}: was tested on other instances of {name}-{test['seed']} than "
                    f"those in {folder / 'instances'}; test it again"
                )
        group = facts["method"]
        if "train_set" in facts:
            group = facts["run"].rpartition("-")[0]
        seed = next(iter(tests.values()))["seed"]
        before = by_key.get((group, seed))
        if before:  # a baseline has a file for each set
            tests = {**before.tests, **tests}
        by_key[group, seed] = Result(group, seed, facts, tests)
    return list(by_key.values()), instances


def pool(
    results: Sequence[Result],
    instances: Mapping[tuple[str, int], Instances],
    set_name: str,
    group_name: str,
) -> Pooled | None:
    """The results of several seeds on one set together; None where there are none."""
    tested = sorted((r for r in results if set_name in r.tests), key=lambda r: r.seed)
    if not tested:
        return None
    ious, clusters, aps = [], [], []
    for result in tested:
        known = instances[set_name, result.seed]
        rows = known.group(group_name)
        ious.append(np.array(result.tests[set_name]["iou"])[rows])
        clusters += np.array(known.clusters)[rows].tolist()
        aps.append(result.tests[set_name][group_name]["mask_ap"])
    return Pooled(np.concatenate(ious), clusters, [float(i.mean()) for i in ious], aps)


def compare(
    ours: Sequence[Result],
    theirs: Sequence[Result],
    instances: Mapping[tuple[str, int], Instances],
    set_name: str,
    group_name: str,
) -> tuple[statistics.Estimate, int] | None:
    """Paired difference on the seeds that both have, and how many these are."""
    seeds = {r.seed for r in ours if set_name in r.tests}
    seeds &= {r.seed for r in theirs if set_name in r.tests}
    first, second = (
        pool([r for r in some if r.seed in seeds], instances, set_name, group_name)
        for some in (ours, theirs)
    )
    if first is None or second is None:
        return None
    return statistics.paired(first.iou, second.iou, first.clusters), len(seeds)


def tables(
    results: Sequence[Result], instances: Mapping[tuple[str, int], Instances]
) -> str:
    """All tables as Markdown."""
    groups = _grouped(results)
    parts = [_test_sets(instances), *_design_effects(groups, instances)]
    for set_name in SETS:
        rows = [
            _row(name, members, instances, set_name)
            for name, members in groups.items()
            if any(set_name in r.tests for r in members)
        ]
        if rows:
            head = "| masks from, head | seeds | seen | AP | unseen | AP | unseen by seed |"
            parts += [
                f"### Tested on {set_name}",
                _table(head, "|---|---:|---|---:|---|---:|---|", rows),
            ]
    differences = _differences(groups, instances)
    if differences:
        head = "| ours | less | tested on | categories | difference | seeds |"
        parts += [
            "### Paired differences",
            _table(head, "|---|---|---|---|---|---:|", differences),
        ]
    costs = [
        _cost(name, members)
        for name, members in groups.items()
        if name not in BASELINES
    ]
    if costs:
        head = (
            "| run | parameters | of the mask head | steps | learning rate | CPU seconds of training | "
            "calls by seed |"
        )
        note = (
            "CPU seconds are the mean over the seeds. A run may take several calls; one that was killed "
            "outright (SIGKILL) is not among them, and its seconds are missing:"
        )
        parts += [
            "### Cost",
            note,
            _table(head, "|---|---:|---:|---:|---:|---:|---|", costs),
        ]
    return "\n\n".join(parts)


def depth_points(
    results: Sequence[Result],
    instances: Mapping[tuple[str, int], Instances],
    set_name: str,
) -> list[chart.Point]:
    """Unseen quality of the heads trained on the seen half of a set, by depth; those of another width
    than the best head's are labelled with theirs.
    """
    groups, points = _grouped(results), []
    for head, depth in runs.DEPTHS.items():
        width = runs.WIDTHS[head]
        label = "" if width == runs.WIDTHS[BEST] else f"width {width}"
        members = groups.get(f"{set_name}-seen-{head}", [])
        pooled = pool(members, instances, set_name, "unseen")
        if pooled:
            figures = statistics.estimate(pooled.iou, pooled.clusters)
            points.append(chart.Point(depth, figures, label))
    return points


def _grouped(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Baselines first, then the runs in the order of the protocol."""
    order = [*BASELINES, *dict.fromkeys(run.group for run in runs.all_runs().values())]
    found = {name: [r for r in results if r.group == name] for name in order}
    return {name: members for name, members in found.items() if members}


def _test_sets(instances: Mapping[tuple[str, int], Instances]) -> str:
    rows = [
        f"| {name}-{seed} | {len(known.clusters)} | "
        + " | ".join(
            f"{known.group(g).sum()} of {len(set(np.array(known.clusters)[known.group(g)]))}"
            for g in GROUPS
        )
        + " |"
        for (name, seed), known in sorted(instances.items())
    ]
    head = "| test set | instances | seen | unseen |"
    note = "Instances, and the sprites (stamps) or pictures (shapes) they belong to:"
    return f"{note}\n\n{_table(head, '|---|---:|---:|---:|', rows)}"


def _design_effects(
    groups: Mapping[str, Sequence[Result]],
    instances: Mapping[tuple[str, int], Instances],
) -> list[str]:
    """A sentence on how much instances of a cluster are alike, where GrabCut has been tested."""
    effects = []
    for set_name in SETS:
        pooled = pool(groups.get("grabcut", []), instances, set_name, "unseen")
        if pooled:
            effect = statistics.design_effect(pooled.iou, pooled.clusters)
            effects.append(f"{effect:.1f} on {set_name}")
    if not effects:
        return []
    return [
        f"Design effect of drawing whole sprites or pictures, for the IoU of GrabCut on unseen "
        f"categories: {', '.join(effects)}."
    ]


def _row(
    name: str,
    members: Sequence[Result],
    instances: Mapping[tuple[str, int], Instances],
    set_name: str,
) -> str:
    cells, by_seed = [], ""
    for group_name in GROUPS:
        pooled = pool(members, instances, set_name, group_name)
        assert pooled, name
        cells.append(_shown(statistics.estimate(pooled.iou, pooled.clusters)))
        cells.append(f"{np.mean(pooled.aps):.3f}")
        by_seed = " ".join(f"{mean:.3f}" for mean in pooled.seed_means)
    return f"| {name} | {len(members)} | {' | '.join(cells)} | {by_seed} |"


def _differences(
    groups: Mapping[str, Sequence[Result]],
    instances: Mapping[tuple[str, int], Instances],
) -> list[str]:
    rows = []
    for ours, theirs in PAIRS:
        for set_name in SETS:
            for group_name in reversed(GROUPS):
                found = compare(
                    groups.get(ours, []),
                    groups.get(theirs, []),
                    instances,
                    set_name,
                    group_name,
                )
                if found:
                    difference, seeds = found
                    rows.append(
                        f"| {ours} | {theirs} | {set_name} | {group_name} | "
                        f"{_shown(difference, sign='+')} | {seeds} |"
                    )
    return rows


def _cost(name: str, members: Sequence[Result]) -> str:
    facts = members[0].facts
    seconds = np.mean([r.facts["cpu_seconds"] for r in members])
    parameters = facts["parameters"]
    in_order = sorted(members, key=lambda r: r.seed)
    calls = " ".join(str(r.facts["calls"]) for r in in_order)
    return (
        f"| {name} | {parameters['all']:,} | {parameters['mask_head']:,} | {facts['steps']} | "
        f"{facts['learning_rate']:g} | {seconds:.0f} | {calls} |"
    )


def _shown(figures: statistics.Estimate, sign: str = "") -> str:
    return (
        f"{figures.mean:{sign}.3f} [{figures.low:{sign}.3f}, {figures.high:{sign}.3f}]"
    )


def _table(head: str, rule: str, rows: Sequence[str]) -> str:
    return "\n".join([head, rule, *rows])


def page(
    results: Sequence[Result], instances: Mapping[tuple[str, int], Instances]
) -> tuple[str, str | None]:
    """What README.md says of the results, and the chart that it shows, if there is one."""
    text = tables(results, instances)
    points = depth_points(results, instances, "stamps")
    if not points:
        return text, None
    levels = {}
    for label, name in LEVELS.items():
        members = [r for r in results if r.group == name]
        pooled = pool(members, instances, "stamps", "unseen")
        if pooled:
            levels[label] = float(pooled.iou.mean())
    text += (
        f"\n\n### Depth\n\nMasks of the seen stamps, tested on the unseen ones (hollow: on fewer seeds). The line "
        f"joins heads of width {runs.WIDTHS[BEST]}; a head of another width, named beside its point, differs in "
        f"more than its depth, and no pilot chose its learning rate.\n\n"
    )
    text += f"![Mean IoU against the number of convolutions]({CHART})"
    return text, chart.draw(points, levels)


def write_page(folder: Path, text: str, drawing: str | None) -> None:
    """Replaces what is between the marks of README.md.

    Raises:
        DataError: there is no such file, or it has no marks.
    """
    readme = folder / "README.md"
    if not readme.is_file():
        raise DataError(f"{readme}: no such file, to write the results into")
    before, found, rest = readme.read_text().partition(BEGIN)
    if not found or END not in rest:
        raise DataError(f"{readme}: lacks the marks {BEGIN} and {END}")
    after = rest.partition(END)[2]
    readme.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
    if drawing:
        (folder / CHART).write_text(drawing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    parser.add_argument("--out", type=Path, default=HERE, metavar="DIR")
    options = parser.parse_args()
    try:
        text, drawing = page(*read_results(options.results))
        write_page(options.out, text, drawing)
    except DeepmacError as e:
        sys.exit(f"error: {e}")
    print(text)


if __name__ == "__main__":
    main()

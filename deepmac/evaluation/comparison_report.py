"""A comparison -> what people read: conclusions, tables, JSON, Markdown, CSV."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from deepmac.evaluation.bootstrap import FEWEST_IMAGES, INTERVAL
from deepmac.evaluation.comparison import Comparison, Difference
from deepmac.evaluation.meanings import label
from deepmac.evaluation.parameters import Parameters, Scope
from deepmac.evaluation.summary import GIVEN_IOU, main_figure
from deepmac.evaluation.tables import Table, as_csv, as_markdown, escaped, with_interval


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A comparison and what it is of.

    Attributes:
        first, second: names of the two, such as their paths; called A and B.
        comparison: of them.
        parameters, scope: of both evaluations.
        groups: name -> category ids.
        num_draws, seed: of the draws of images.
        num_images: that changed most are listed.
    """

    first: str
    second: str
    comparison: Comparison
    parameters: Parameters
    scope: Scope
    groups: Mapping[str, Collection[Any]]
    num_draws: int
    seed: int
    num_images: int

    @property
    def headlines(self) -> list[str]:
        """The figures that the conclusions are about."""
        figures = [main_figure(self.parameters), GIVEN_IOU]
        everything = self.comparison.groups["all"]
        return [name for name in figures if everything[name].value is not None]


def document_of(compared: Compared) -> dict[str, Any]:
    """All of it as JSON values."""
    comparison, scope = compared.comparison, compared.scope
    groups = {"all": scope.category_ids, **compared.groups}
    return {
        "iou_type": compared.parameters.iou_type,
        "a": compared.first,
        "b": compared.second,
        "conclusions": conclusions(compared),
        "bootstrap": {
            "draws": compared.num_draws,
            "seed": compared.seed,
            "interval": INTERVAL,
        },
        "groups": {
            name: {"categories": len(groups[name]), **_as_json(differences)}
            for name, differences in comparison.groups.items()
        },
        "per_category": [
            {
                "id": category_id,
                "name": scope.category_names[category_id],
                "groups": [
                    n for n, ids in compared.groups.items() if category_id in ids
                ],
                **_as_json(differences),
            }
            for category_id, differences in comparison.categories.items()
        ],
        "image_score": _image_score(comparison),
        "images_changed": len(comparison.images),
        "images": [
            {
                "image_id": change.image_id,
                "file_name": change.name,
                "a": change.first,
                "b": change.second,
                "change": change.second - change.first,
            }
            for change in comparison.images[: compared.num_images]
        ],
    }


def conclusions(compared: Compared) -> list[str]:
    """A sentence for each group and headline figure: which is better, and by how much."""
    if not compared.headlines:
        name = main_figure(compared.parameters)
        return [f"no conclusion: there is no object that {name} could be of"]
    return [
        _conclusion(differences[name], group, label(name))
        for name in compared.headlines
        for group, differences in compared.comparison.groups.items()
    ]


def notes(compared: Compared) -> list[str]:
    """Sentences on how to read the tables."""
    found = []
    has_intervals = any(
        d.interval is not None
        for differences in compared.comparison.groups.values()
        for d in differences.values()
    )
    if compared.num_draws and not has_intervals:
        found.append(
            f"No intervals: fewer than {FEWEST_IMAGES} images have objects, which is too few to "
            f"draw from."
        )
    elif compared.num_draws:
        found.append(
            f"±: half of the interval that holds {INTERVAL:.0%} of {compared.num_draws} draws of "
            f"the images, the same for both. It says what other images would change, not what "
            f"training again would. No interval where fewer than {FEWEST_IMAGES} images have such "
            f"objects."
        )
    name = main_figure(compared.parameters)
    differences = [d[name] for d in compared.comparison.categories.values()]
    tried = [d for d in differences if d.interval is not None]
    if len(tried) > 1:
        shown = sum(d.is_shown for d in tried)
        found.append(
            f"{shown} of {len(tried)} categories show a difference of {name} (*). About "
            f"{(1 - INTERVAL) * len(tried):.0f} would by chance alone if there were none: "
            f"look at a category that you named beforehand, or take it for a hint."
        )
    return found


def tables_of(compared: Compared) -> list[Table]:
    """The groups, all figures, the categories, and the images that changed most."""
    comparison, scope = compared.comparison, compared.scope
    found = [
        Table(
            label(name),
            ["group", *_HEADINGS],
            [[group, *_cells(d[name])] for group, d in comparison.groups.items()],
        )
        for name in compared.headlines
    ]
    everything = comparison.groups["all"]
    rows = [
        [label(n), *_cells(d)] for n, d in everything.items() if d.value is not None
    ]
    found.append(Table("all categories", ["figure", *_HEADINGS], rows))
    for name in compared.headlines:
        rows = [
            [scope.category_names[c], *_cells(d[name])]
            for c, d in comparison.categories.items()
        ]
        if rows:
            found.append(
                Table(f"{label(name)} by category", ["category", *_HEADINGS], rows)
            )
    if compared.num_images and comparison.images:
        rows = [
            [
                str(c.image_id),
                c.name or "-",
                f"{c.first:.3f}",
                f"{c.second:.3f}",
                f"{c.second - c.first:+.3f}",
            ]
            for c in comparison.images[: compared.num_images]
        ]
        title = (
            f"images that changed most, of {len(comparison.images)} that did: "
            f"{_image_score(comparison)}"
        )
        found.append(Table(title, ["image", "file", "A", "B", "B - A"], rows, 2))
    return found


def markdown(compared: Compared) -> str:
    """All of it as a Markdown page."""
    parts = [
        "# Comparison",
        f"A: `{compared.first}`, B: `{compared.second}`; "
        f"{'masks' if compared.parameters.iou_type == 'segm' else 'boxes'}, "
        f"{len(compared.scope.image_ids)} images",
        "\n".join(f"* {escaped(sentence)}" for sentence in conclusions(compared)),
        *map(as_markdown, tables_of(compared)),
        *map(escaped, notes(compared)),
    ]
    return "\n\n".join(parts) + "\n"


def csv_of(compared: Compared) -> bytes:
    """A row for each group or category, and figure."""
    names = compared.scope.category_names
    parts = [("group", "", name, d) for name, d in compared.comparison.groups.items()]
    parts += [
        ("category", category_id, names[category_id], d)
        for category_id, d in compared.comparison.categories.items()
    ]
    rows = []
    for *what, differences in parts:
        for figure, d in differences.items():
            low, high = d.interval or (None, None)
            figures = (d.first, d.second, d.value, low, high, d.share_better)
            rows.append(dict(zip(_COLUMNS, (*what, figure, *figures), strict=True)))
    return as_csv(rows, _COLUMNS)


_COLUMNS = (
    *("of", "id", "name", "figure"),
    *("a", "b", "difference", "low", "high", "share_b_better"),
)
_HEADINGS = ("A", "B", "B - A", "B better in")


def _cells(difference: Difference) -> list[str]:
    value, share = difference.value, difference.share_better
    if difference.interval == (0.0, 0.0):
        share = None
    change = "-"
    if value is not None:
        change = with_interval(value, difference.interval, sign=True)
    mark = " *" if difference.is_shown else "  "
    return [
        with_interval(difference.first, None),
        with_interval(difference.second, None),
        change + mark,
        "-" if share is None else f"{share:.1%}",
    ]


def _conclusion(difference: Difference, group: str, figure: str) -> str:
    value, interval = difference.value, difference.interval
    on = "all categories" if group == "all" else group
    if value is None:
        return f"nothing can be said of {on} ({figure}): one of the two has no figure"
    if interval is None:
        return f"on {on} B - A is {value:+.3f} ({figure}, no interval)"
    kind = f"({figure}, {INTERVAL:.0%})"
    if interval == (0.0, 0.0):
        return f"A and B do equally well on {on} {kind}"
    if not difference.is_shown:
        change = with_interval(value, interval, sign=True)
        return f"no difference is shown on {on}: {change} {kind}"
    better = "B" if value > 0 else "A"
    ends = sorted(map(abs, interval))
    return f"{better} is better on {on} by {with_interval(abs(value), ends)} {kind}"


def _as_json(differences: Mapping[str, Difference]) -> dict[str, Any]:
    return {
        name: {
            "a": d.first,
            "b": d.second,
            "difference": d.value,
            "interval": d.interval,
            "share_b_better": d.share_better,
        }
        for name, d in differences.items()
    }


def _image_score(comparison: Comparison) -> str:
    if comparison.at_given_boxes:
        return "mean IoU at boxes"
    return "share of the objects found, mean over IoU thresholds"

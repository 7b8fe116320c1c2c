"""What `deepmac.evaluate` gives back: figures, tables and curves."""

import dataclasses
import html
import importlib
import io
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from rich.console import Console

from deepmac.errors import DataError, DeepmacError, OptionError, did_you_mean
from deepmac.evaluation import saved
from deepmac.evaluation.plain import plain
from deepmac.evaluation.summary import GIVEN_IOU, Evaluation
from deepmac.evaluation.tables import tables
from deepmac.text import short

if TYPE_CHECKING:
    import matplotlib.axes
    import pandas


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class EvaluationResult:
    """The outcome of an evaluation of masks or of boxes. `print` shows it as a table.

    Attributes:
        evaluation: parameters, images and categories, curves, and the mergeable state.
        document: what `to_dict` gives.
        group_ids: name of a group -> its category ids.
    """

    evaluation: Evaluation
    document: Mapping[str, Any]
    group_ids: Mapping[str, Collection[Any]]

    @property
    def iou_type(self) -> str:
        """`segm` or `bbox`."""
        return self.evaluation.parameters.iou_type

    @property
    def stats(self) -> dict[str, float]:
        """The twelve COCO numbers, and those of other ranges and limits; -1 where there is nothing."""
        return dict(self._figures["stats"])

    @property
    def per_category(self) -> list[dict[str, Any]]:
        """The same for each category, with its id, name, groups and number of annotations."""
        return list(self._figures["per_category"])

    @property
    def groups(self) -> dict[str, dict[str, Any]]:
        """The same for each group of categories, by its name."""
        return dict(self._figures["groups"])

    @property
    def intervals(self) -> dict[str, list[float]]:
        """Figure -> [low, high], the 95 % interval of a bootstrap over images."""
        return dict(self._figures.get("intervals", {}))

    @property
    def warnings(self) -> list[str]:
        """What was unusual about the data, in sentences with numbers."""
        return list(self.document["warnings"])

    @property
    def counts(self) -> dict[str, int]:
        """How many images, categories, annotations, predictions, and what was left out."""
        return dict(self.document["counts"])

    @property
    def mean_iou_at_gt_boxes(self) -> float | None:
        """Mean IoU of the masks predicted for given boxes; None if none was."""
        return self._figures[GIVEN_IOU]

    @property
    def precision(self) -> np.ndarray:
        """float64 [T, R, K, A, M], as in pycocotools."""
        return self.evaluation.curves.precision

    @property
    def recall(self) -> np.ndarray:
        """float64 [T, K, A, M], as in pycocotools."""
        return self.evaluation.curves.recall

    @property
    def scores(self) -> np.ndarray:
        """float64 [T, R, K, A, M], as in pycocotools."""
        return self.evaluation.curves.scores

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values: the `metrics.json` of `deepmac evaluate`, of one kind."""
        return dict(self.document)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `to_dict` as JSON, or the state that `deepmac compare` reads.

        Args:
            path: ends in `.json` or `.npz`.

        Raises:
            OptionError: it ends otherwise.
            DataError: it cannot be written.
        """
        kind = Path(path).suffix
        if kind not in (".json", ".npz"):
            raise OptionError(f"save: {os.fspath(path)} must end in .json or .npz")
        flags = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        try:
            with open(path, "wb") as file:
                if kind == ".json":
                    file.write(orjson.dumps(self.document, option=flags))
                else:
                    saved.write(file, self.evaluation, self.group_ids)
        except OSError as e:
            raise DataError(
                f"{os.fspath(path)}: cannot be written: {e.strerror}"
            ) from e

    def to_dataframe(self, rows: str = "categories") -> "pandas.DataFrame":
        """A pandas table, one row for each category or group; NaN where there is nothing to say.

        Args:
            rows: `categories`, or `groups`, the first of which is `all`; with the ends of its
                interval in `NAME_low` and `NAME_high` where there are any.

        Raises:
            OptionError: `rows` is something else.
            DeepmacError: pandas is not installed.
        """
        choices = ("categories", "groups")
        if rows not in choices:
            hint = did_you_mean(str(rows), choices)
            raise OptionError(f"rows is categories or groups, got '{rows}'{hint}")
        pandas = _optional("pandas", "to_dataframe")
        if rows == "categories":
            table = [_flat(row) for row in self.per_category]
            return (
                pandas.DataFrame(table).set_index("name")
                if table
                else pandas.DataFrame()
            )
        table = {name: _flat(row) for name, row in self._by_group().items()}
        return pandas.DataFrame.from_dict(table, orient="index").rename_axis("group")

    def plot_pr(
        self,
        *,
        iou: float | None = None,
        area: str = "all",
        categories: Iterable[Any] | None = None,
        ax: "matplotlib.axes.Axes | None" = None,
    ) -> "matplotlib.axes.Axes":
        """Draws precision over recall: a line for all categories, and one for each group.

        Args:
            iou: the IoU threshold, one of those evaluated; None: the mean over all of them.
            area: label of the range of object sizes.
            categories: names or ids to draw a line of each, in place of the groups.
            ax: to draw into; by default a new figure's.

        Raises:
            OptionError: there is no such threshold, range or category.
            DeepmacError: Matplotlib is not installed.
        """
        chosen = self._lines(categories)
        threshold = self._threshold(iou)
        labels = [a.label for a in self.evaluation.parameters.area_ranges]
        if area not in labels:
            raise OptionError(
                f"area is one of {', '.join(labels)}, got '{area}'{did_you_mean(str(area), labels)}"
            )
        if ax is None:
            _, ax = _optional("matplotlib.pyplot", "plot_pr").subplots()
            assert ax is not None
        precision = self.precision[threshold, :, :, labels.index(area), -1]  # [T, R, K]
        recalls = self.evaluation.parameters.recall_thresholds
        for name, columns in chosen.items():
            some = precision[:, :, columns]
            some = some[
                :, :, (some > -1).all(axis=(0, 1))
            ]  # without objects there is -1
            if some.size:
                mean = some.mean(axis=(0, 2))
                ax.plot(recalls, mean, label=f"{name} ({mean.mean():.3f})")
        ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        what = "masks" if self.iou_type == "segm" else "boxes"
        at = "mean over IoU thresholds" if iou is None else f"IoU {iou:.2f}"
        ax.set_title(f"{what}, {at}" + ("" if area == "all" else f", {area} objects"))
        ax.grid(alpha=0.3)
        if ax.lines:
            ax.legend(title="mean precision")
        return ax

    def __repr__(self) -> str:
        figures = [f"{k} {_shown(v)}" for k, v in list(self.stats.items())[:3]]
        if self.mean_iou_at_gt_boxes is not None:
            figures.append(f"IoU at boxes {self.mean_iou_at_gt_boxes:.3f}")
        warned = f", {len(self.warnings)} warnings" if self.warnings else ""
        return (
            f"<EvaluationResult {self.iou_type}: {', '.join(figures)}; "
            f"{self.counts['images']} images{warned}>"
        )

    def __str__(self) -> str:
        console = Console(highlight=False, width=100, file=io.StringIO(), record=True)
        console.print(tables(self.document, self.iou_type))
        for warning in self.warnings:
            console.print(f"warning: {warning}", markup=False, soft_wrap=True)
        return console.export_text().rstrip()

    def _repr_html_(self) -> str:
        """For notebooks: the headline of all categories and of each group, and the warnings."""
        columns = self._by_group()
        names = [*self.stats, GIVEN_IOU]
        names = [n for n in names if columns["all"].get(n) is not None]
        head = "".join(f"<th>{html.escape(str(c))}</th>" for c in columns)
        body = "".join(
            f"<tr><th>{'IoU at boxes' if n == GIVEN_IOU else html.escape(n)}</th>"
            + "".join(f"<td>{_cell(c, n)}</td>" for c in columns.values())
            + "</tr>"
            for n in names
        )
        warnings = "".join(f"<li>{html.escape(w)}</li>" for w in self.warnings)
        counts = self.counts
        return (
            f"<p><b>{'masks' if self.iou_type == 'segm' else 'boxes'}</b>: "
            f"{counts['images']} images, {counts['annotations']} annotations, "
            f"{counts['predictions']} predictions</p>"
            f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"
            + (f"<ul>{warnings}</ul>" if warnings else "")
        )

    @property
    def _figures(self) -> Mapping[str, Any]:
        return self.document[self.iou_type]

    def _by_group(self) -> dict[str, dict[str, Any]]:
        """`all` and each group -> its figures, all in one mapping."""
        figures = self._figures
        others = {
            key: value
            for key, value in figures.items()
            if key not in ("stats", "groups", "per_category")
        }
        whole = {
            **figures["stats"],
            **others,
            "categories": self.counts["categories"],
        }
        return {"all": whole, **figures["groups"]}

    def _lines(self, categories: Iterable[Any] | None) -> dict[str, list[int]]:
        """Name of a line of `plot_pr` -> positions of its categories."""
        scope = self.evaluation.scope
        if not self.evaluation.parameters.use_categories:
            return {"all": [0]}
        index = scope.category_index
        everything = {"all": list(range(len(scope.category_ids)))}
        if categories is None:
            groups = {n: [index[c] for c in ids] for n, ids in self.group_ids.items()}
            return everything | groups
        by_name = {scope.category_names[c]: c for c in scope.category_ids}
        if not isinstance(categories, Iterable):
            raise OptionError(
                f"categories is {short(categories)}, not a list of names or ids"
            )
        wanted = [categories] if isinstance(categories, str) else list(categories)
        chosen = {}
        for value in plain(wanted):
            is_known = isinstance(value, int | float | str) and value in index
            category_id = value if is_known else by_name.get(str(value))
            if category_id not in index:
                hint = did_you_mean(str(value), by_name)
                raise OptionError(f"categories: there is no {value!r} here{hint}")
            chosen[scope.category_names[category_id]] = [index[category_id]]
        return chosen

    def _threshold(self, iou: float | None) -> list[int]:
        thresholds = np.array(self.evaluation.parameters.iou_thresholds)
        if iou is None:
            return list(range(len(thresholds)))
        near = thresholds[:0]
        if isinstance(iou, int | float | np.number):
            near = np.flatnonzero(np.isclose(thresholds, iou, rtol=0, atol=1e-9))
        if not near.size:
            known = ", ".join(f"{t:.2f}" for t in thresholds)
            raise OptionError(f"iou is one of {known}, got {short(iou)}")
        return near[:1].tolist()


def _optional(module: str, method: str) -> Any:
    """A package that only notebooks need.

    Raises:
        DeepmacError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as e:
        package = module.partition(".")[0]
        raise DeepmacError(
            f"{method} needs {package}: pip install {package} (or deepmac[notebook])"
        ) from e


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of figures without nesting, NaN for what there is nothing to say about."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if key == "intervals":
            for name, (low, high) in value.items():
                flat |= {f"{name}_low": low, f"{name}_high": high}
        elif isinstance(value, Mapping):
            prefix = GIVEN_IOU if key.startswith(GIVEN_IOU) else key
            flat |= {f"{prefix}_{name}": v for name, v in value.items()}
        elif not key.endswith("_by_size"):
            flat[key] = value
    return {key: np.nan if _is_nothing(value) else value for key, value in flat.items()}


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value < 0)


def _cell(figures: Mapping[str, Any], name: str) -> str:
    shown = _shown(figures.get(name))
    if name not in figures.get("intervals", {}):
        return shown
    low, high = figures["intervals"][name]
    return f"{shown} <small>[{low:.3f}, {high:.3f}]</small>"


def _shown(value: float | None) -> str:
    return "-" if value is None or value < 0 else f"{value:.3f}"

"""What a benchmark is to do: its rows and its data, with everything wrong told before any work."""

import contextlib
import dataclasses
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deepmac.config.load import config_names, load_config
from deepmac.data.directory import open_records
from deepmac.data.files import is_file, is_folder, is_remote, join
from deepmac.data.image_source import ImageSource
from deepmac.data.json_file import read_json
from deepmac.data.predictions import open_predictions
from deepmac.errors import DataError, DeepmacError, OptionError, did_you_mean, one_of
from deepmac.evaluation.results_file import ResultsFile
from deepmac.terminal import announce
from pipelines.benchmark_tables import PUBLISHED
from pipelines.preflight import Problems, check_output

if TYPE_CHECKING:
    from pipelines.benchmark import Options

_PREFIX = "center_net_deepmac_"
BASELINES = ("box", "ellipse", "grabcut", "center_net_deepmac_tiny")
"""Rows of the generated pictures for which all comes with the package."""

_DECIDES = (
    "model.center_net.feature_extractor.type",
    "model.center_net.deepmac_mask_estimation.network_type",
)
"""Fields that make a network another one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the table and where its masks come from.

    Attributes:
        name: of the row, and of its folder.
        model: for `label --model`.
        checkpoint: its weights; None for those that ship with it, or none.
        predictions: masks made before; None to make them.
        categories: to evaluate; None for all.
    """

    name: str
    model: str
    checkpoint: str | None = None
    predictions: str | None = None
    categories: str | None = None

    @property
    def detects(self) -> bool:
        """Whether the model's own boxes are meant, not given ones."""
        return any(row.name == self.name for row in PUBLISHED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """What is evaluated on.

    Attributes:
        name: for the table.
        ground_truth: for `evaluate`.
        images: directory of the pictures; None with records.
        image_ids: of the first images in order, where not all are meant.
        subset: the annotation file cut down to these.
        has_annotations: False where only the images are public, as of test-dev.
        seen: file of the seen categories' names, of the shapes set.
    """

    name: str
    ground_truth: str
    images: str | None = None
    image_ids: Sequence[Any] | None = None
    subset: Mapping[str, Any] | None = None
    has_annotations: bool = True
    seen: str | None = None


def plan(options: "Options") -> tuple[list[Row], Data | None]:
    """The rows to run, and their data (None for the shapes set that is still to be generated).

    Raises:
        ProblemsFound: names everything that is wrong.
    """
    problems = Problems()
    rows: list[Row] = []
    data = None
    with problems.noting():
        check_output(options.out)
    for name in ("limit", "num_images"):
        value = getattr(options, name)
        if value is not None and value < 1:
            problems.add(f"--{name} must be positive, got {value}")
    if options.limit is not None and _is_generated(options):
        problems.add(
            "--limit is for --annotations; --num_images says how many pictures to generate"
        )
    with problems.noting():
        rows = _coco_rows(options) if options.set == "coco" else _shapes_rows(options)
    for row in rows:
        with problems.noting():
            _check_row(row)
    with problems.noting():
        data = _data(options, rows)
    problems.raise_any()
    return rows, data


def _is_generated(options: "Options") -> bool:
    given = (options.annotations, options.records)
    return options.set == "shapes" and given == (None, None)


# Rows.


def _coco_rows(options: "Options") -> list[Row]:
    known = {row.name: row for row in PUBLISHED}
    given = _given(options, lambda name: _among(name.removeprefix(_PREFIX), known))
    chosen = [_among(n.removeprefix(_PREFIX), known) for n in options.row] or list(
        given
    )
    lacking = [name for name in chosen if name not in given]
    if lacking:
        raise OptionError(
            f"--row {lacking[0]}: needs --checkpoint {lacking[0]}=PATH or --predictions "
            f"{lacking[0]}=PATH"
        )
    return [
        Row(
            name=name,
            model=row.config,
            categories=row.categories,
            **{given[name][0]: given[name][1]},
        )
        for name, row in known.items()
        if name in chosen
    ]


def _shapes_rows(options: "Options") -> list[Row]:
    rows = {name: Row(name=name, model=name) for name in BASELINES}
    for name, (kind, path) in _given(options, _file_name).items():
        if kind == "checkpoint":
            _among(name, config_names())
        rows[name] = Row(name=name, model=name, **{kind: path})
    for name in options.row:
        _among(name, rows)
    return [row for name, row in rows.items() if not options.row or name in options.row]


def _given(options: "Options", resolve: Any) -> dict[str, tuple[str, str]]:
    """Name of a row -> which option gives it, and the path."""
    given: dict[str, tuple[str, str]] = {}
    for option in ("checkpoint", "predictions"):
        for text in getattr(options, option):
            name, equals, path = text.partition("=")
            if not equals or not name or not path:
                raise OptionError(
                    f"--{option}: '{text}' is not ROW=PATH, such as "
                    f"{PUBLISHED[0].name}=path/to/{'ckpt-51' if option == 'checkpoint' else 'masks'}"
                )
            name = resolve(name)
            if name in given:
                raise OptionError(f"--{option} {name}=...: the row is given twice")
            given[name] = option, path
    return given


def _among(name: str, known: Any) -> str:
    if name in known:
        return name
    hint = did_you_mean(name, known) or f"; there are {one_of(known)}"
    raise OptionError(f"the table has no row '{name}'{hint}")


def _file_name(name: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise OptionError(
            f"'{name}' cannot name a row: use letters, digits, '_', '.' and '-'"
        )
    return name


def _check_row(row: Row) -> None:
    if row.predictions is not None:
        with _told_of(f"--predictions {row.name}={row.predictions}"):
            if is_folder(row.predictions):
                open_predictions(row.predictions)
            else:
                ResultsFile(row.predictions).first()
    if row.checkpoint is None:
        return
    # They import Keras: seconds, which a table of what is there already need not take.
    from deepmac.checkpoint.facts import configured, infer_settings
    from deepmac.checkpoint.load import open_weights

    with _told_of(f"--checkpoint {row.name}={row.checkpoint}"):
        weights = open_weights(row.checkpoint)
        settings = infer_settings({n: v.shape for n, v in weights.variables.items()})
        config = load_config(row.model)
        for field in _DECIDES:
            wanted = configured(config, field)
            if settings.get(field, wanted) != wanted:
                what = "mask head" if field.endswith("network_type") else "backbone"
                raise DataError(
                    f"the weights have the {what} {settings[field]}, {row.model} has {wanted}"
                )


@contextlib.contextmanager
def _told_of(option: str) -> Iterator[None]:
    """Begins an error with the option whose value is wrong."""
    try:
        yield
    except DeepmacError as e:
        raise DataError(f"{option}: {e}") from e


# Data.


def _data(options: "Options", rows: Sequence[Row]) -> Data | None:
    makes_masks = any(row.predictions is None for row in rows)
    if options.records is not None:
        if options.annotations is not None or options.images is not None:
            raise OptionError(
                "name one input: --annotations with --images, or --records"
            )
        if options.limit is not None:
            raise OptionError("--limit is for --annotations, not for --records")
        open_records(options.records)
        name = posixpath.basename(options.records.rstrip("/"))
        return Data(name=name, ground_truth=options.records)
    if options.annotations is None:
        if options.images is not None:
            raise OptionError("--images go together with --annotations")
        if rows and options.set == "coco":
            raise OptionError(
                "nothing to evaluate on: give --annotations and --images, or --records"
            )
        if rows and is_remote(options.out):
            raise OptionError(
                f"--out {options.out}: pictures are generated there, and on a local disk alone; give "
                f"--annotations and --images, or another --out"
            )
        return None
    if makes_masks and options.images is None:
        raise OptionError("--annotations needs --images to make masks of")
    if options.images is not None:
        ImageSource(options.images)
    return _of_file(options.annotations, options)


def _of_file(path: str, options: "Options") -> Data:
    with announce(f"reading {path}"):
        dataset = read_json(path)
    if not isinstance(dataset, dict) or not isinstance(dataset.get("images"), list):
        raise DataError(f"{path}: is not a COCO annotation file, it has no 'images'")
    has_annotations = "annotations" in dataset
    if options.set == "shapes" and not has_annotations:
        raise DataError(f"{path}: has no 'annotations'")
    seen = join(posixpath.dirname(path), "seen.txt")
    if options.set == "shapes" and not is_file(seen):
        raise DataError(
            f"{path}: is not of the shapes set, there is no seen.txt beside it; make one with "
            f"python -m deepmac.samples"
        )
    image_ids = subset = None
    if options.limit is not None and options.limit < len(dataset["images"]):
        image_ids, subset = _first_images(dataset, options.limit)
    return Data(
        name=posixpath.basename(path).removesuffix(".gz").removesuffix(".json"),
        ground_truth=path,
        images=options.images,
        image_ids=image_ids,
        subset=subset,
        has_annotations=has_annotations,
        seen=seen if options.set == "shapes" else None,
    )


def _first_images(
    dataset: Mapping[str, Any], limit: int
) -> tuple[list[Any], dict[str, Any]]:
    """The lowest ids, and the data set cut down to them. Entries without an id are left to `label`."""
    images = [i for i in dataset["images"] if isinstance(i, dict) and "id" in i]
    ids = sorted((i["id"] for i in images), key=lambda i: (isinstance(i, str), i))[
        :limit
    ]
    kept = set(ids)
    subset = dict(dataset)
    subset["images"] = [i for i in images if i["id"] in kept]
    if "annotations" in dataset:
        subset["annotations"] = [
            a
            for a in dataset["annotations"]
            if isinstance(a, dict) and a.get("image_id") in kept
        ]
    return ids, subset

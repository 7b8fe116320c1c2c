"""The published table with our own numbers beside it, and the same for the generated pictures.

checkpoint or masks of each row -> label -> evaluate the categories that it is about -> one table
"""

import contextlib
import dataclasses
import gc
import io
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson

import deepmac
from deepmac.commands import command_line, from_options, option, run
from deepmac.data.files import is_file, is_folder, join, open_file
from deepmac.errors import DataError, OptionError
from deepmac.evaluation.summary import GIVEN_IOU
from deepmac.predictors import CLASSICAL
from deepmac.samples import write_shapes
from deepmac.terminal import announce
from pipelines import evaluate, infer, launch
from pipelines.benchmark_plan import BASELINES, Data, Row, plan
from pipelines.benchmark_tables import PUBLISHED, markdown
from pipelines.label_exports import RESULTS
from pipelines.label_precision import REQUESTS
from pipelines.label_work import open_shared
from pipelines.quickstart import one_thread_each_processor
from pipelines.storage import Output, hold_output

JSON, MARKDOWN = "benchmark.json", "benchmark.md"
_SIDE = 256  # pixels of the generated pictures
_UPLOAD = "detections_{}_deepmac_results.json"
"""The evaluation server's name of a results file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Prints the published table beside numbers of your own, or that of the generated pictures.

    The rows are the four published configurations: 512x512_voc_only, 1024x1024_voc_only,
    1024x1024_non_voc_only and 1024x1024_coco. One whose checkpoint is given detects and segments
    the images; one whose predictions are given is evaluated. Rows that an earlier call has put into
    --out stay in the table, and a row that was stopped goes on where it was.

    --set shapes makes masks for the boxes of generated pictures, with what needs no checkpoint.
    """

    set: str = option(
        "The published COCO table, or the project's generated pictures.",
        default="coco",
        choices=("coco", "shapes"),
    )
    checkpoint: tuple[str, ...] = option(
        "Weights of a row; may be given several times.", metavar="ROW=PATH", default=()
    )
    predictions: tuple[str, ...] = option(
        "Masks of a row made before: a COCO results file, or a directory that `deepmac label` "
        "made; may be given several times.",
        metavar="ROW=FILE|DIR",
        default=(),
    )
    annotations: str | None = option(
        "COCO annotations to evaluate on (JSON). One without annotations, as of test-dev, gives a "
        "results file for the evaluation server.",
        metavar="FILE",
        default=None,
    )
    images: str | None = option(
        "Directory of the image files.", metavar="DIR", default=None
    )
    records: str | None = option(
        "Directory of records instead of annotations and images.",
        metavar="DIR",
        default=None,
    )
    out: str = option("Directory to write to.", default="benchmark", metavar="DIR")
    row: tuple[str, ...] = option(
        "Run these rows only; by default all that can be.", metavar="ROW", default=()
    )
    limit: int | None = option(
        "Take the first images only, in order of their ids. The table says so.",
        default=None,
    )
    num_images: int = option("Pictures to generate, for --set shapes.", default=100)
    seed: int = option("Decides the generated pictures.", default=1002)
    micro_batch: int = option("Images predicted together.", default=4)
    precision: str = option(
        "What the networks compute in; see `deepmac label --help`.",
        default="float32",
        choices=REQUESTS,
    )


def execute(options: Options, beam_args: list[str]) -> int:
    """Runs the rows that are given and prints the table; returns the exit status."""
    launch.parse_beam_args(beam_args, Options)
    rows, data = plan(options)
    status = 0
    with hold_output(options.out) as output:
        _claim(output, options.set)
        if options.set == "shapes":
            data = data or _generate(options)
        _write_subset(output, data)
        document = _document(output, options, rows)
        _write(output, document)
        for row in rows:
            assert data
            result, row_status = _run(row, data, options, beam_args, output)
            status = max(status, row_status)
            output.write(f"{row.name}/row.json", _dump(result))
            document = _document(output, options, rows)
            _write(output, document)
    print(f"\n{markdown(document)}")
    print(f"{options.out}/{JSON}, {options.out}/{MARKDOWN}")
    return status


command = from_options("benchmark", Options, execute)


def main(argv: list[str] | None = None) -> int:
    """`python -m pipelines.benchmark`: the options of the benchmark and Beam's, mixed."""
    mixed = from_options("benchmark", Options, execute, mix_in_unknown=True)
    return run(mixed, argv, "python -m pipelines.benchmark")


# The directory.


def _claim(output: Output, name: str) -> None:
    """Makes the directory ours, or refuses one that holds something else."""
    stored = output.read(JSON)
    if stored is None:
        if entries := output.entries():
            raise OptionError(
                f"--out {output.root} holds {entries[0]} and no earlier benchmark; name another"
            )
        return
    try:
        made_for = orjson.loads(stored)["set"]
    except (ValueError, KeyError, TypeError):
        made_for = None
    if made_for != name:
        raise OptionError(
            f"--out {output.root} holds a benchmark of another set"
            + (f", {made_for}" if made_for else "")
            + "; name another"
        )


def _write_subset(output: Output, data: Data | None) -> None:
    if data and data.image_ids is not None:
        ids = "".join(f"{image_id}\n" for image_id in data.image_ids)
        output.write(_subset_name(data, "txt"), ids.encode())
        output.write(_subset_name(data, "json"), orjson.dumps(data.subset))


def _subset_name(data: Data, ending: str) -> str:
    assert data.image_ids is not None
    return f"{data.name}-first-{len(data.image_ids)}.{ending}"


def _generate(options: Options) -> Data:
    with announce("generating"):
        shapes = write_shapes(
            Path(options.out) / "shapes",
            options.num_images,
            size=_SIDE,
            seed=options.seed,
        )
    name = f"{options.num_images} generated pictures, seed {options.seed}"
    return Data(
        name=name,
        ground_truth=str(shapes.annotations),
        images=str(shapes.images),
        seen=str(shapes.seen),
    )


# A row.


def _run(
    row: Row,
    data: Data,
    options: Options,
    beam_args: Sequence[str],
    output: Output,
) -> tuple[dict[str, Any], int]:
    """Labels where masks are to be made, and evaluates; returns the row and the exit status."""
    folder = join(options.out, row.name)
    predictions, status = row.predictions, 0
    if predictions is None:
        label = _label_options(row, data, options, folder)
        flags = list(beam_args)
        if not flags and row.model == "grabcut":
            flags = list(one_thread_each_processor())
        status = _job(f"label with {row.name}", infer, label, flags)
        predictions = label.out
        if row.model not in CLASSICAL:
            open_shared.cache_clear()  # two large networks need not fit together
            gc.collect()
    result = {
        "data": data.name,
        "limit": None if data.image_ids is None else len(data.image_ids),
        "checkpoint": row.checkpoint,
        "predictions": predictions,
        "notes": [f"On {data.name}{_first(data)}."] if options.set == "shapes" else [],
    }
    if not data.has_annotations:
        return result | _for_upload(row, data, predictions, output), status
    score = evaluate.Options(
        ground_truth=data.ground_truth,
        predictions=predictions,
        out=join(folder, "metrics"),
        categories=row.categories,
        seen=f"@{data.seen}" if data.seen else None,
        image_ids=_file_of_ids(data, options),
        images=data.images,
    )
    status = max(status, _job(f"evaluate {row.name}", evaluate, score, []))
    stored = output.read(f"{row.name}/metrics/{evaluate.METRICS}")
    assert stored
    document = orjson.loads(stored)
    figures = _shapes_figures if options.set == "shapes" else _coco_figures
    result |= {"status": "evaluated", "images": document["counts"]["images"]}
    return result | figures(document["segm"]), status


def _first(data: Data) -> str:
    return f", the first {len(data.image_ids)} of them" if data.image_ids else ""


def _label_options(
    row: Row, data: Data, options: Options, folder: str
) -> infer.Options:
    annotations, name = None, "predictions"
    if data.images is not None:
        annotations = data.ground_truth
        if data.image_ids is not None:
            annotations = join(options.out, _subset_name(data, "json"))
            name = f"predictions-first-{len(data.image_ids)}"
    return infer.Options(
        annotations=annotations,
        images=data.images,
        records=data.ground_truth if annotations is None else None,
        out=join(folder, name),
        model=row.model,
        checkpoint=row.checkpoint,
        boxes="detect" if row.detects else "given",
        precision=options.precision if row.model not in CLASSICAL else "float32",
        micro_batch=options.micro_batch,
        write_coco_results=not data.has_annotations,
    )


def _file_of_ids(data: Data, options: Options) -> str | None:
    if data.image_ids is None:
        return None
    return f"@{join(options.out, _subset_name(data, 'txt'))}"


def _for_upload(
    row: Row, data: Data, predictions: str, output: Output
) -> dict[str, Any]:
    """The results file for the evaluation server, under the name that it asks for."""
    made = predictions
    if is_folder(made):
        name = _UPLOAD.format(data.name.removeprefix("image_info_"))
        results, made = join(made, RESULTS), output.path(f"{row.name}/{name}")
        if not is_file(results):
            raise DataError(
                f"{results} is missing; run the same label command again with "
                f"--write_coco_results"
            )
        with (
            open_file(results) as source,
            output.new_file(f"{row.name}/{name}") as file,
        ):
            shutil.copyfileobj(source, file)
            file.publish()
    note = (
        f"{row.name}: {data.name} has no annotations. Zip {made} and upload it to COCO's evaluation "
        f"server; or give --annotations of val2017 for a number here."
    )
    return {"status": "results written", "notes": [note]}


def _coco_figures(segm: Mapping[str, Any]) -> dict[str, Any]:
    """Mask mAP in percent, as it was published."""
    value = segm["stats"]["AP"]
    interval = segm.get("intervals", {}).get("AP")
    return {
        "ours": None if value < 0 else 100 * value,
        "interval": interval and [100 * end for end in interval],
        "stats": segm["stats"],
    }


def _shapes_figures(segm: Mapping[str, Any]) -> dict[str, Any]:
    groups = {
        "all": {**segm, **segm["stats"]},
        **{name: segm["groups"][name] for name in ("seen", "unseen")},
    }
    names = {"AP": "AP", "iou_at_boxes": GIVEN_IOU}
    return {
        **{key: {g: v[name] for g, v in groups.items()} for key, name in names.items()},
        "intervals": {
            key: {g: v.get("intervals", {}).get(name) for g, v in groups.items()}
            for key, name in names.items()
        },
    }


def _job(title: str, module: ModuleType, options: Any, beam_args: Sequence[str]) -> int:
    """Runs a job as its command would. Its own words are shown only when it does not end well."""
    command = command_line(f"deepmac {module.command.name}", options, beam_args)
    print(f"{title}:  {command}", flush=True)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = module.execute(options, list(beam_args))
    if status:
        print(said.getvalue(), end="")
    return status


# The table.


def _document(output: Output, options: Options, rows: Sequence[Row]) -> dict[str, Any]:
    """All rows of the table, with what is known of each, also from an earlier call."""
    if options.set == "coco":
        shown = [(row.name, row.facts()) for row in PUBLISHED]
    else:
        entries = output.entries()
        found = {name for name in entries if output.read(f"{name}/row.json")}
        found |= {row.name for row in rows}
        names = dict.fromkeys([*BASELINES, *sorted(found)])
        shown = [(name, {"row": name}) for name in names if name in found]
    known = [facts | _known(output, name) for name, facts in shown]
    return {
        "set": options.set,
        "deepmac": deepmac.__version__,
        "rows": known,
        "notes": _SHAPES_NOTES if options.set == "shapes" else _what_to_give(known),
    }


_SHAPES_NOTES = [
    "IoU at boxes: of each object's mask with the true one, given its box; the mean. AP is COCO's; "
    "box, ellipse and grabcut have no scores to rank by, so it says less of them. The network was "
    "trained with masks of the seen categories alone (docs/tiny_model.md)."
]


def _what_to_give(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lacking = [row["row"] for row in rows if row["status"] == "not run"]
    if not lacking:
        return []
    return [
        f"To run a row, give its weights or its masks, and what to evaluate on: --checkpoint "
        f"{lacking[0]}=PATH, or --predictions {lacking[0]}=PATH, with --annotations FILE --images "
        f"DIR. The other rows that are not run: {', '.join(lacking[1:]) or 'none'}."
    ]


def _known(output: Output, name: str) -> dict[str, Any]:
    stored = output.read(f"{name}/row.json")
    return (
        {"status": "not run", "notes": []} if stored is None else orjson.loads(stored)
    )


def _write(output: Output, document: Mapping[str, Any]) -> None:
    output.write(JSON, _dump(document))
    output.write(MARKDOWN, markdown(document).encode())


def _dump(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


if __name__ == "__main__":
    # What travels to workers must come from the module of that name, not from `__main__`.
    from pipelines.benchmark import main as start

    sys.exit(start())

"""The tables of `deepmac benchmark`: what was published beside what came out here, as Markdown."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from deepmac.config.load import load_config


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """A row of the published table: mask mAP on COCO of a network trained with some masks.

    Attributes:
        name: of the row.
        train: categories whose masks were trained.
        evaluate: categories that the number is of.
        categories: the same for `deepmac evaluate --categories`; None for all.
        mask_map: in percent, as the authors state it.
        data: COCO images that it is of.
    """

    name: str
    train: str
    evaluate: str
    categories: str | None
    mask_map: float
    data: str

    @property
    def config(self) -> str:
        """The configuration's name."""
        return f"center_net_deepmac_{self.name}"

    def facts(self) -> dict[str, Any]:
        """The row's columns but the last, as JSON values."""
        center_net = load_config(self.config).model.center_net
        resizer = center_net.image_resizer.keep_aspect_ratio_resizer
        assert resizer
        return {
            "row": self.name,
            "resolution": resizer.max_dimension,
            "mask_head": center_net.deepmac_mask_estimation.network_type,
            "train": self.train,
            "eval": self.evaluate,
            "config": self.config,
            "published": self.mask_map,
            "published_on": self.data,
        }


PUBLISHED = (
    Published("512x512_voc_only", "VOC", "non-VOC", "non_voc", 32.5, "val2017"),
    Published("1024x1024_voc_only", "VOC", "non-VOC", "non_voc", 35.5, "val2017"),
    Published("1024x1024_non_voc_only", "non-VOC", "VOC", "voc", 39.1, "val2017"),
    Published("1024x1024_coco", "all", "all", None, 39.4, "test-dev2017"),
)
"""What the authors publish with these configurations."""


def markdown(document: Mapping[str, Any]) -> str:
    """The table of a benchmark, with a line below for whatever needs saying."""
    rows = document["rows"]
    table = _coco_table(rows) if document["set"] == "coco" else _shapes_table(rows)
    notes = [note for row in rows for note in row["notes"]]
    notes += document["notes"]
    return "\n".join([*table, *(f"\n{note}" for note in dict.fromkeys(notes))]) + "\n"


def _coco_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    head = (
        "Resolution", "Mask head", "Train → Eval", "Config", "Published mask mAP", "Ours",
    )  # fmt: skip
    return _table(
        head,
        [
            (
                f"{row['resolution']} x {row['resolution']}",
                row["mask_head"],
                f"{row['train']} → {row['eval']}",
                f"`{row['config']}`",
                f"{row['published']:.1f}"
                + (" (test-dev)" if row["published_on"].startswith("test") else ""),
                _ours(row),
            )
            for row in rows
        ],
    )


def _ours(row: Mapping[str, Any]) -> str:
    if row["status"] != "evaluated":
        return row["status"]
    flags = [row["data"]] if row["published_on"] not in row["data"] else []
    flags += [f"first {row['limit']} images"] if row["limit"] else []
    flags = f" ({', '.join(flags)})" if flags else ""
    return _with_interval(row["ours"], row["interval"], 1, most=100) + flags


_SHAPES_COLUMNS = (
    ("iou_at_boxes", "seen"), ("iou_at_boxes", "unseen"), ("AP", "seen"), ("AP", "unseen")
)  # fmt: skip


def _shapes_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    names = [_data_of(row) for row in rows]
    are_of_one = len({name for name in names if name}) <= 1
    head = (
        "Predictor", "IoU at boxes, seen", "IoU at boxes, unseen", "Mask AP, seen",
        "Mask AP, unseen",
    )  # fmt: skip
    return _table(
        head,
        [
            (
                row["row"] + (f" ({name})" if name and not are_of_one else ""),
                *(
                    _with_interval(row[key][group], row["intervals"][key][group], 3)
                    if row["status"] == "evaluated"
                    else row["status"]
                    for key, group in _SHAPES_COLUMNS
                ),
            )
            for row, name in zip(rows, names, strict=True)
        ],
    )


def _data_of(row: Mapping[str, Any]) -> str:
    """Which pictures a row is of; empty for one that was not run."""
    first = f", first {row['limit']} images" if row.get("limit") else ""
    return f"{row.get('data', '')}{first}"


def _with_interval(
    value: float | None,
    interval: Sequence[float] | None,
    digits: int,
    most: float = 1,
) -> str:
    """A figure between 0 and `most`; its interval is cut there."""
    if value is None:
        return "-"
    shown = f"{value:.{digits}f}"
    if interval is None:
        return shown
    low, high = max(interval[0], 0), min(interval[1], most)
    return f"{shown} [{low:.{digits}f}, {high:.{digits}f}]"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [
        "| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines
    ]

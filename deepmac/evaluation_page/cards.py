"""The galleries of the report: matches as pictures, three views of each."""

import base64
import dataclasses
import html
from collections.abc import Sequence
from typing import Any

from deepmac.match_picture import MatchPicture


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """An object, a detection, or both, that can be shown.

    Attributes:
        picture: of it.
        image_id, file_name: of its image.
        annotation_id: of the object; None for a detection alone.
        category: name of the object's category; None for a detection alone.
        predicted: name of the detection's category; None for an object alone.
        score: of the detection.
        iou: of both; None where either is missing.
        remark: what else is to be said of it, in a word or two.
    """

    picture: MatchPicture
    image_id: Any
    file_name: str
    annotation_id: Any = None
    category: str | None = None
    predicted: str | None = None
    score: float | None = None
    iou: float | None = None
    remark: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class DrawnGallery:
    """The cards of a `selection.Gallery`.

    Attributes:
        name, num_all: as there.
        cards: those that can be shown.
    """

    name: str
    num_all: int
    cards: Sequence[Card]


@dataclasses.dataclass(frozen=True, slots=True)
class NotShown:
    """Some that were chosen of an image and cannot be shown, how many, and why."""

    image_id: Any
    number: int
    reason: str


_TITLES = {
    "worst": ("Worst matches", "matches"),
    "best": ("Best matches", "matches"),
    "random": ("Matches at random", "matches"),
    "false": ("Most confident mistakes", "detections that are wrong"),
    "missed": ("Missed objects, at random", "objects that nothing matches"),
}


def galleries_html(
    galleries: Sequence[DrawnGallery], prefix: str, noun: str, for_given_boxes: bool
) -> str:
    """The galleries of one kind of evaluation.

    Args:
        galleries: to show.
        prefix: of the ids of elements, one for each kind.
        noun: `mask` or `box`.
        for_given_boxes: matches are objects with the predictions for their boxes.
    """
    parts = []
    for gallery in galleries:
        if not gallery.cards:
            continue
        title, what = _TITLES[gallery.name]
        if for_given_boxes:
            title = title.replace("matches", "masks").replace("Matches", "Masks")
            what = "objects with the masks for their boxes"
        cards = "".join(
            _card(card, f"{prefix}-{gallery.name}-{number}", noun)
            for number, card in enumerate(gallery.cards)
        )
        parts.append(
            f"<h4>{title} <span class=quiet>{len(gallery.cards):,} of {gallery.num_all:,} {what}"
            f"</span></h4><div class=cards>{cards}</div>\n"
        )
    return "".join(parts)


LEGEND = (
    '<p class="legend pictures"><span><i class=predicted></i>predicted</span>'
    "<span><i class=truth></i>true</span><span>third view: <i class=extra></i>predicted alone,"
    " <i class=missed></i>true alone, <i class=both></i>both</span></p>"
)


def not_shown_html(left_out: Sequence[NotShown]) -> str:
    """What was chosen and could not be shown, by image, with the reasons."""
    if not left_out:
        return ""
    number = sum(some.number for some in left_out)
    images = len({some.image_id for some in left_out})
    items = "".join(
        f"<li>image {_shown(some.image_id)} ({some.number:,}): {html.escape(some.reason)}</li>"
        for some in left_out
    )
    return (
        f"<h3>Not shown: {number:,} that were chosen, of {_count(images, 'image')}</h3>"
        f"<ul class=missing>{items}</ul>"
    )


def _card(card: Card, name: str, noun: str) -> str:
    p = card.picture
    size = f'viewBox="0 0 {p.width} {p.height}"'
    data = base64.b64encode(p.jpeg).decode("ascii")
    # The bytes stand there once; the other views use them.
    views = (
        (
            f"predicted {noun}",
            f'<image id="{name}" width="{p.width}" height="{p.height}" '
            f'href="data:image/jpeg;base64,{data}"/>{_path(p.predicted, "predicted")}',
        ),
        (f"true {noun}", f'<use href="#{name}"/>{_path(p.truth, "truth")}'),
        (
            "difference",
            f'<use href="#{name}"/>{_path(p.both, "both")}{_path(p.extra, "extra")}'
            f"{_path(p.missed, 'missed')}",
        ),
    )
    about = f"{_title(card)} in image {_shown(card.image_id)}"
    drawn = "".join(
        f'<svg {size} role="img" aria-label="{view}: {about}">{inner}</svg>'
        for view, inner in views
    )
    figures = [
        f"{key} {value:.2f}"
        for key, value in (("IoU", card.iou), ("score", card.score))
        if value is not None
    ]
    which = (
        ""
        if card.annotation_id is None
        else f", annotation {_shown(card.annotation_id)}"
    )
    return (
        f"<figure class=match><div class=views>{drawn}</div><figcaption><b>{_title(card)}</b>"
        f"<span class=figures>{', '.join(figures)}</span><span class=file>image "
        f"{_shown(card.image_id)}{which}<br>{html.escape(card.file_name)}</span></figcaption>"
        f"</figure>\n"
    )


def _title(card: Card) -> str:
    names = [card.category, card.predicted]
    title = html.escape(next(name for name in names if name is not None))
    if None not in names and card.category != card.predicted:
        title += f", predicted as {html.escape(card.predicted or '')}"
    return f"{title} ({card.remark})" if card.remark else title


def _path(path: str, kind: str) -> str:
    return f'<path class="{kind}" d="{path}"/>' if path else ""


def _shown(number: Any) -> str:
    return html.escape(str(number))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")

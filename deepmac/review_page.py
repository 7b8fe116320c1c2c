"""The page on which a person looks through masks: one HTML file, read from disk.

Pictures are inside. Nothing is fetched; without scripts the pictures are there, and the buttons
are not. What is ticked is kept by the browser, and given as ids to copy.
"""

import base64
import dataclasses
import hashlib
import html
import json
from collections.abc import Sequence

from deepmac.gallery import BASE_STYLE
from deepmac.instances import AnnotationId, ImageId
from deepmac.review import Picture


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A mask on the page.

    Attributes:
        picture: of it.
        image_id: of its image.
        annotation_id: of its box; None for a detection, and for a box without an id.
        rank: its place among the masks of the image, from 1.
        file_name: of the image.
        category: name of its category.
        score: of the mask.
        is_low, is_random: why it is here.
    """

    picture: Picture
    image_id: ImageId
    annotation_id: AnnotationId | None
    rank: int
    file_name: str
    category: str
    score: float
    is_low: bool
    is_random: bool


@dataclasses.dataclass(frozen=True, slots=True)
class NotShown:
    """An image whose masks could not be shown: how many of those chosen, and why."""

    image_id: ImageId
    num_masks: int
    reason: str


def render_review(
    cards: Sequence[Card],
    not_shown: Sequence[NotShown],
    *,
    num_masks: int,
    num_low_of_all: int,
) -> str:
    """The page as HTML. May hold halves of surrogate pairs where names do.

    Args:
        cards: in the order in which they are shown at first.
        not_shown: images that could not be read.
        num_masks: there are in all.
        num_low_of_all: how many are the lowest twentieth, shown or not.
    """
    body = "".join(_card(card) for card in cards)
    key = hashlib.sha256(body.encode("utf-8", "backslashreplace")).hexdigest()[:16]
    told = introduction(cards, num_masks, num_low_of_all)
    categories = sorted({card.category for card in cards})
    return _PAGE.format(
        style=BASE_STYLE + _STYLE,
        script=_SCRIPT,
        key=key,
        introduction=html.escape(told[:1].upper() + told[1:]),
        categories="".join(f"<option>{html.escape(c)}</option>" for c in categories),
        cards=body,
        not_shown=_not_shown(not_shown),
    )


def introduction(cards: Sequence[Card], num_masks: int, num_low_of_all: int) -> str:
    """What is shown, of how much."""
    if not num_masks:
        return "there are no masks."
    low, sample = sum(c.is_low for c in cards), sum(c.is_random for c in cards)
    would = (
        "" if low == num_low_of_all else f" (a twentieth would be {num_low_of_all:,})"
    )
    text = (
        f"the {low:,} lowest-scored of {num_masks:,} {'mask' if num_masks == 1 else 'masks'}"
        f"{would}, and {sample:,} of all at random."
    )
    if len(cards) > 1 and len({card.score for card in cards}) == 1:
        text += " All have the same score: the lowest are a random sample too."
    return text


def _card(card: Card) -> str:
    picture = card.picture
    data = base64.b64encode(picture.jpeg).decode("ascii")
    x, y, width, height = picture.box
    groups = [n for n, has in (("low", card.is_low), ("random", card.is_random)) if has]
    size = f'width="{picture.width}" height="{picture.height}"'
    which = (
        f"annotation {_shown(card.annotation_id)}"
        if card.annotation_id is not None
        else f"mask {card.rank} of the image"
    )
    mark = ", lowest scores" if card.is_low else ""
    mark += ", random sample" if card.is_random else ""
    mark += ", empty mask" if not picture.outline else ""
    return (
        f'<figure tabindex=0 data-groups="{" ".join(groups)}" data-score="{card.score!r}" '
        f'data-category="{html.escape(card.category)}" data-ids="{html.escape(_ids(card))}">'
        f'<label><div class=picture><img alt="" {size} decoding="async" '
        f'src="data:image/jpeg;base64,{data}">'
        f'<svg viewBox="0 0 {picture.width} {picture.height}" aria-hidden="true">'
        f'<path d="{picture.outline}"/>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/></svg></div>'
        f'<span class=line><input type=checkbox tabindex="-1"><b>{html.escape(card.category)}</b>'
        f"<span class=score>{card.score:.3f}</span></span></label>"
        f"<figcaption>image {_shown(card.image_id)}, {which}{mark}<br>"
        f"<span class=file>{html.escape(card.file_name)}</span></figcaption></figure>\n"
    )


def _ids(card: Card) -> str:
    """The ids of a mask as JSON: of its annotation, or its place among the masks of its image."""
    ids = {"image_id": card.image_id}
    if card.annotation_id is not None:
        return json.dumps(ids | {"annotation_id": card.annotation_id})
    return json.dumps(ids | {"rank": card.rank})


def _shown(number: ImageId | AnnotationId) -> str:
    return html.escape(str(number))


def _not_shown(images: Sequence[NotShown]) -> str:
    if not images:
        return ""
    masks = sum(image.num_masks for image in images)
    items = "".join(
        f"<li>image {_shown(i.image_id)} ({i.num_masks}): {html.escape(i.reason)}</li>"
        for i in images
    )
    return (
        f"<section><h2>Not shown: {masks:,} chosen {'mask' if masks == 1 else 'masks'} of "
        f"{len(images):,} {'image' if len(images) == 1 else 'images'} that could not be read</h2>"
        f"<ul>{items}</ul></section>"
    )


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Masks to review</title>
<style>{style}</style>
</head>
<body data-key="{key}">
<main>
<h1>Masks to review</h1>
<p class=lead>{introduction}</p>
<form class=bar hidden>
<label>Show <select name=group><option value="">all</option><option value="low">lowest scores</option>
<option value="random">random sample</option><option value="ticked">ticked</option></select></label>
<label>Category <select name=category><option value="">all</option>{categories}</select></label>
<label>Order <select name=order><option value="1">lowest score first</option>
<option value="-1">highest score first</option></select></label>
<label><input type=checkbox name=lines checked> outlines:
<i class=mask></i> mask, <i class=box></i> box</label>
<span class=count aria-live=polite></span>
<span class=keys><kbd>&larr;</kbd><kbd>&uarr;</kbd><kbd>&darr;</kbd><kbd>&rarr;</kbd> go, <kbd>space</kbd> tick, <kbd>o</kbd> outlines</span>
</form>
<div class=cards>{cards}</div>
{not_shown}
<section class=ticked hidden>
<h2><span class=number>0</span> ticked <button type=button name=copy>Copy the ids</button>
<button type=button name=clear>Clear</button></h2>
<textarea readonly rows=4 spellcheck=false aria-label="ids of the ticked masks"></textarea>
</section>
</main>
<script>{script}</script>
</body>
</html>
"""

_STYLE = """
main { max-width: 110rem; padding-bottom: 2rem; }
.lead { max-width: none; }
.bar i { display: inline-block; width: 1.4rem; margin: 0 .1rem; vertical-align: .25em; border-top: 2px solid #ff2d78; }
.bar i.box { border-top: 2px dashed #00a5d3; }
.bar { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; align-items: center;
       margin: 1.5rem 0 1rem; padding: .7rem 0; background: var(--paper); border-bottom: 1px solid var(--line);
       font-size: .9rem; color: var(--quiet); }
.bar[hidden], .ticked[hidden], figure[hidden] { display: none; }
select, button, textarea { font: inherit; color: var(--text); background: var(--panel); border: 1px solid var(--line);
         border-radius: 6px; padding: .2rem .5rem; }
select { max-width: 16rem; }
button { cursor: pointer; font-size: .85rem; font-weight: 400; }
.keys { margin-left: auto; }
kbd { font: .8rem ui-monospace, "SF Mono", Menlo, Consolas, monospace; padding: .05rem .35rem; margin-right: .1rem;
      border: 1px solid var(--line); border-radius: 4px; background: var(--panel); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: 1rem; margin-top: 1rem; }
figure { margin: 0; padding: .5rem; border: 1px solid var(--line); border-radius: 8px; scroll-margin: 6rem 0 14rem;
         content-visibility: auto; contain-intrinsic-size: auto 19rem; }
figure:focus { outline: 2px solid #3a7bd5; outline-offset: 1px; }
figure.on { border-color: #d6336c; box-shadow: inset 0 0 0 1px #d6336c; }
figure label { cursor: pointer; }
.picture { position: relative; height: 13rem; display: grid; place-items: center; background: var(--panel);
           border-radius: 5px; overflow: hidden; }
.picture img, .picture svg { grid-area: 1 / 1; width: 100%; height: 13rem; }
.picture img { object-fit: contain; }
path { fill: #ff2d78; fill-opacity: .28; fill-rule: evenodd; stroke: #ff2d78; stroke-width: 2px;
       stroke-linejoin: round; vector-effect: non-scaling-stroke; }
rect { fill: none; stroke: #00c8ff; stroke-width: 1.5px; stroke-dasharray: 5 3; vector-effect: non-scaling-stroke; }
.plain svg { display: none; }
.line { display: flex; gap: .4rem; align-items: baseline; margin-top: .45rem; font-size: .9rem; line-height: 1.3; }
.line b { overflow: hidden; text-overflow: ellipsis; font-weight: 600; white-space: nowrap; }
.line input { margin: 0; flex: none; align-self: center; accent-color: #d6336c; }
.score { margin-left: auto; white-space: nowrap; font-variant-numeric: tabular-nums; }
figcaption { margin-top: .2rem; font-size: .8rem; line-height: 1.4; color: var(--quiet); overflow-wrap: anywhere; }
.file { display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
ul { padding-left: 1.2rem; overflow-wrap: anywhere; }
.ticked { position: sticky; bottom: 0; margin-top: 2rem; padding: .8rem 0 1rem; background: var(--paper);
          border-top: 1px solid var(--line); }
.ticked h2 { margin: 0 0 .5rem; font-size: 1rem; }
.ticked button { margin-left: .6rem; }
textarea { display: block; width: 100%; resize: vertical; font: .8rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
@media (max-width: 46rem) { .keys { display: none; } .cards { grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); } }
"""

_SCRIPT = """
"use strict";
const bar = document.querySelector(".bar"), cards = document.querySelector(".cards");
const panel = document.querySelector(".ticked"), text = panel.querySelector("textarea");
const figures = [...cards.querySelectorAll("figure")];
const box = figure => figure.querySelector("input");
const store = "deepmac-review-" + document.body.dataset.key;

function arrange() {
  const group = bar.group.value, category = bar.category.value, sign = Number(bar.order.value);
  let shown = 0;
  for (const figure of figures) {
    const data = figure.dataset;
    const fits = !group || (group === "ticked" ? box(figure).checked : data.groups.split(" ").includes(group));
    figure.hidden = !(fits && (!category || data.category === category));
    shown += !figure.hidden;
  }
  const sorted = figures.map((figure, i) => [Number(figure.dataset.score) * sign, i * sign, figure]);
  sorted.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  cards.append(...sorted.map(entry => entry[2]));
  bar.querySelector(".count").textContent = shown + " of " + figures.length + " shown";
}

function collect() {
  const on = figures.filter(figure => box(figure).checked);
  for (const figure of figures) figure.classList.toggle("on", box(figure).checked);
  panel.hidden = !on.length;
  panel.querySelector(".number").textContent = on.length;
  // As text: a script would round ids of more than 53 bits.
  text.value = "[\\n" + on.map(figure => "  " + figure.dataset.ids).join(",\\n") + "\\n]";
  try { localStorage.setItem(store, JSON.stringify(on.map(figure => figures.indexOf(figure)))); } catch {}
}

function go(from, key) {
  const visible = [...cards.children].filter(figure => !figure.hidden);
  const columns = getComputedStyle(cards).gridTemplateColumns.split(" ").length;
  const step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns}[key];
  const next = from ? visible[visible.indexOf(from) + step] : visible[0];
  if (next) next.focus();
}

document.addEventListener("keydown", event => {
  const tag = event.target.tagName;
  if (event.ctrlKey || event.metaKey || event.altKey || ["SELECT", "TEXTAREA", "BUTTON"].includes(tag)) return;
  const figure = event.target.closest("figure");
  if (event.key.startsWith("Arrow")) go(figure, event.key);
  else if (event.key === " " && figure) { box(figure).checked ^= 1; collect(); }
  else if (event.key === "o") { bar.lines.checked ^= 1; outline(); }
  else return;
  event.preventDefault();
});

function outline() { cards.classList.toggle("plain", !bar.lines.checked); }

cards.addEventListener("change", event => { event.target.closest("figure").focus(); collect(); });
bar.addEventListener("change", () => { outline(); arrange(); });
bar.addEventListener("submit", event => event.preventDefault());
panel.querySelector("[name=clear]").addEventListener("click", () => {
  for (const figure of figures) box(figure).checked = false;
  collect();
  arrange();
});
panel.querySelector("[name=copy]").addEventListener("click", async event => {
  const button = event.target;
  text.select();
  try { await navigator.clipboard.writeText(text.value); } catch { document.execCommand("copy"); }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy the ids"; }, 1500);
});

try { for (const i of JSON.parse(localStorage.getItem(store)) || []) box(figures[i]).checked = true; } catch {}
bar.hidden = !figures.length;
outline();
collect();
arrange();
"""

"""The page of a cohort: `augreg cohort --report`. Everybody in one look, whom to doubt first.

A card has a picture of one image, before and after, and its numbers; a click makes it as wide as the page. Cards are sorted and
filtered in the browser: all that it needs is in their attributes, so that the page says the same without a script.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence

from augreg.cohort import Line
from augreg.report.page import page

# doubts from which on a card is marked; three robust standard deviations
_DOUBTFUL = 3.0

_STYLE = """
main { max-width: 1720px; padding: 1rem 1rem 3rem; }
form { display: flex; flex-wrap: wrap; gap: .5rem 1.2rem; align-items: center; margin: .4rem 0 .8rem; }
#cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(175px, 1fr)); gap: .5rem; }
article { background: #fff; border: 1px solid #e2e6ec; border-radius: 6px; padding: .35rem; font-size: 12px; line-height: 1.35;
  overflow-wrap: anywhere; cursor: zoom-in; }
article.doubtful { border-color: #d9822b; box-shadow: inset 0 3px 0 #d9822b; }
article.failed { border-color: #b3261e; box-shadow: inset 0 3px 0 #b3261e; }
article.large { grid-column: 1 / -1; cursor: zoom-out; font-size: 14px; }
article[hidden] { display: none; }
article b { font-size: 1.05em; }
article p { margin: .2rem 0 0; max-width: none; }
article p.said { color: #8a4b08; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden; }
article.large p.said { display: block; }
article.failed p.said { color: #b3261e; -webkit-line-clamp: 8; }
article img { background: #000; }
"""

_SCRIPT = """
const cards = document.getElementById("cards"), all = [...cards.children];
const order = document.getElementById("order"), words = document.getElementById("words");
const only = document.getElementById("only"), count = document.getElementById("count");
const number = (card, key) => card.dataset[key] === "" ? NaN : Number(card.dataset[key]);
const rising = new Set(["similarity", "dice"]);
const show = () => {
  const key = order.value, wanted = words.value.trim().toLowerCase();
  const sorted = [...all].sort((a, b) => {
    if (key === "name") return a.dataset.name.localeCompare(b.dataset.name, undefined, { numeric: true });
    if (key === "given") return number(a, "given") - number(b, "given");
    const x = number(a, key), y = number(b, key);
    if (isNaN(x) || isNaN(y)) return isNaN(x) === isNaN(y) ? number(a, "given") - number(b, "given") : isNaN(x) ? -1 : 1;
    return x === y ? number(a, "given") - number(b, "given") : rising.has(key) ? x - y : y - x;
  });
  let shown = 0;
  for (const card of sorted) {
    card.hidden = (only.checked && !card.matches(".doubtful, .failed")) || !card.textContent.toLowerCase().includes(wanted);
    shown += !card.hidden;
    cards.append(card);
  }
  count.textContent = `${shown} of ${all.length} shown`;
};
for (const control of [order, words, only]) control.addEventListener("input", show);
document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
cards.addEventListener("click", (event) => event.target.closest("article")?.classList.toggle("large"));
show();
document.body.dataset.ready = "1";
"""

_TEXT = (
    "Above (in 2-D left) each image as it was, below (right) as it is aligned; outlines of {fixed} in yellow, those of the "
    "image's own label map in green. Doubt is how many robust standard deviations the worst of its numbers is off the others', "
    "plus 3 for a warning. Similarity is the correlation with {fixed}, growth the volume in the image of what has volume 1 there."
)


def cohort_page(lines: Sequence[Line], doubts: Sequence[float], pictures: Sequence[bytes | None], fixed: str) -> str:
    """All images of a cohort, those to be doubted first.

    Parameters
    ----------
    lines : of the cohort's table, in the order of the images
    doubts : of each, infinite for what has failed
    pictures : WebP of each, or None
    fixed : name of the fixed image
    """
    order = sorted(range(len(lines)), key=lambda i: -doubts[i])
    cards = "".join(_card(i, lines[i], doubts[i], pictures[i]) for i in order)
    failed = sum(bool(line.failed) for line in lines)
    lead = f"{len(lines) - failed} of {len(lines)} images aligned to {fixed}, {failed} failed. {_TEXT.format(fixed=fixed)}"
    sorts = {"doubt": "doubt", "similarity": "least similarity", "dice": "least Dice", "folding": "folding", "growth": "growth"}
    sorts |= {"seconds": "seconds", "name": "name", "given": "order given"}
    options = "".join(f'<option value="{key}">{text}</option>' for key, text in sorts.items())
    form = (
        f'<form><label>sort by <select id="order">{options}</select></label>'
        '<label>with the words <input id="words" type="search"></label>'
        '<label><input id="only" type="checkbox"> doubtful only</label><output id="count"></output></form>'
    )
    return page("Cohort", lead, [form, f'<div id="cards">{cards}</div>'], _STYLE, _SCRIPT)


def _card(number: int, line: Line, doubt: float, picture: bytes | None) -> str:
    kind = "failed" if line.failed else "doubtful" if doubt >= _DOUBTFUL else ""
    known = {name: getattr(line, name) for name in ("similarity", "dice", "folding", "growth", "seconds")}
    data = {"name": line.name, "given": str(number), "doubt": "Infinity" if math.isinf(doubt) else f"{doubt:.6g}"}
    data |= {name: f"{value:.6g}" if math.isfinite(value) else "" for name, value in known.items()}
    attributes = " ".join(f'data-{name}="{html.escape(value)}"' for name, value in data.items())
    uri = "" if picture is None else base64.b64encode(picture).decode()
    image = f'<img src="data:image/webp;base64,{uri}" alt="{html.escape(line.name)}, before and after">' if uri else ""
    # the path stands above it
    said = f"failed: {line.failed.removeprefix(f'{line.image}: ')}" if line.failed else "; ".join(line.warnings)
    text = f"<b>{html.escape(line.name)}</b> {'' if line.failed else f'doubt {doubt:.1f}'}<p>{html.escape(_numbers(line))}</p>"
    if said:
        text += f'<p class="said" title="{html.escape(said)}">{html.escape(said)}</p>'
    return f'<article class="{kind}" {attributes}>{image}{text}</article>'


def _numbers(line: Line) -> str:
    """What is known, short."""
    if line.failed:
        return line.image
    parts = [f"similarity {line.similarity_before:.2f} to {line.similarity:.2f}"]
    if math.isfinite(line.dice):
        parts.append(f"Dice {line.dice_before:.2f} to {line.dice:.2f}")
    parts.append(f"growth {line.growth:.2f}")
    if line.folding > 0:
        parts.append(f"folds {line.folding:.2%}")
    return ", ".join([*parts, f"{line.seconds:.1f} s"])

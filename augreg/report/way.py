"""The way of a registration that moves step by step, as pictures behind a slider."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

from augreg.geometry.image import Image
from augreg.geometry.resampling import warp
from augreg.geometry.transforms import Transform
from augreg.report import figures
from augreg.report.page import section

# pictures of a page, of more states some are left out
_MOST = 40

SCRIPT = """
for (const way of document.querySelectorAll(".way")) {
  const frames = [...way.querySelectorAll("img")], said = way.querySelector("output");
  const slider = way.querySelector("input"), play = way.querySelector("button");
  let timer = null;
  const show = () => {
    frames.forEach((frame, k) => { frame.hidden = k !== Number(slider.value); });
    said.textContent = frames[slider.value].alt;
  };
  const stop = () => { clearInterval(timer); timer = null; play.textContent = "Play"; };
  slider.addEventListener("input", () => { stop(); show(); });
  play.addEventListener("click", () => {
    if (timer !== null) { stop(); return; }
    if (Number(slider.value) === frames.length - 1) slider.value = 0;
    play.textContent = "Stop";
    show();
    timer = setInterval(() => {
      if (Number(slider.value) === frames.length - 1) { stop(); return; }
      slider.value = Number(slider.value) + 1;
      show();
    }, 350);
  });
  show();
}
document.body.dataset.ready = "yes";
"""
STYLE = """
.way { max-width: 30rem; }
.way input { width: 100%; }
.way output { display: block; font-variant-numeric: tabular-nums; }
"""


def way_section(fixed: Image, moving: Image, states: Sequence[tuple[str, Transform]]) -> str:
    """A box with an overlay per state; it needs SCRIPT and STYLE, and shows the last state without a script.

    Parameters
    ----------
    fixed, moving : the images
    states : what each is called, and its transform, from the start to the result
    """
    chosen = np.unique(np.linspace(0, len(states) - 1, min(_MOST, len(states))).round().astype(int))
    pictures = []
    for number in chosen:
        name, transform = states[number]
        drawn = figures.overlay(fixed, warp(moving, transform, fixed.grid))
        uri = figures.panels([("", drawn)], columns=1, width=4.0)
        hidden = "" if number == chosen[-1] else " hidden"
        pictures.append(f'<img src="{uri}" alt="{html.escape(f"{number}: {name}")}"{hidden}>')
    last = len(chosen) - 1
    slider = f'<input type="range" min="0" max="{last}" step="1" value="{last}" aria-label="state">'
    text = f"Fixed in red, moving in cyan, grey where they agree: {len(states)} states from the start to the result."
    box = f'<div class="way">{"".join(pictures)}{slider}<output></output><button type="button">Play</button></div>'
    return section("The way", text, box)

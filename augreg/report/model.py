"""The page of an appearance model: `augreg sam show`.

The page carries the model's leading modes and makes their images in the browser; see `payload.py` for the numbers and `maths.js`
for the functions.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from importlib.resources import files

import numpy as np

from augreg.geometry.grid import FloatArray
from augreg.geometry.image import Image
from augreg.report import figures
from augreg.report.curves import Diagram, model_diagrams, plot_diagram
from augreg.report.page import figure, page, section
from augreg.report.payload import MODES, payload, shown_grid
from augreg.sam import AppearanceModel

_ROWS = 3
# a sample of a volume takes seconds
_SAMPLES = {2: 24, 3: 12}
_COLUMNS = 6
_AXES = "xyz"


def mode_panels(model: AppearanceModel) -> str:
    """The mean and the first modes of shape and appearance at -2, 0 and +2 standard deviations."""
    draws = []
    for part in ("shape", "appearance"):
        count = len(getattr(model, part).variance)
        for mode in range(min(_ROWS, count)):
            for deviation in (-2.0, 0.0, 2.0):
                coefficients = {name: np.zeros(len(getattr(model, name).variance)) for name in ("shape", "appearance")}
                coefficients[part][mode] = deviation
                image = model.instance(coefficients["shape"], coefficients["appearance"])
                draws.append((f"{part} {mode + 1}, {deviation:+.0f} SD" if deviation else "mean", figures.picture(image)))
    return figures.panels(draws, columns=6)


def model_page(model: AppearanceModel, diagrams: Sequence[Diagram] = (), seed: int = 0, beside: Sequence[str] = ()) -> str:
    """Live modes, locality maps, curves and samples.

    Parameters
    ----------
    model : appearance model
    diagrams : measures on images that the model has not seen, see `augreg.report.curves.evaluation_diagrams`
    seed : seed of the samples
    beside : sections of real images beside invented ones, see `augreg.report.beside_sections`
    """
    rng = np.random.default_rng(seed)
    sections = [
        section(
            "Explore",
            "Each slider is one way in which images vary, in standard deviations (SD): 0 is the mean, two thirds of a population "
            "lie within 1 SD, one in twenty beyond 2 SD. Shape modes move anatomy, texture modes change intensities. "
            "Percentages: the mode's share of the model's variance. The address of the page keeps what is set.",
            _explorer(model),
        ),
        section(
            "Locality",
            "Click a place, or move it with the arrow keys: colours show what varies together with it in this model. Red: moves "
            "in the same direction, or brightens too; blue: the opposite; plain: independent of it, or hardly variable. The more "
            "local a model, the smaller the coloured patch.",
            _locality(model),
        ),
        section("How good is it?", _missing(diagrams), _curves([*diagrams, *model_diagrams(model, rng)])),
        *beside,
        *_wall(model, rng),
    ]
    lead = (
        f"{len(model.textures)} training images, {len(model.landmarks)} {'nodes' if model.maps.dense else 'landmarks'}, "
        f"{model.shape.rank} shape modes, "
        f"{model.appearance.rank} texture modes, {' x '.join(map(str, model.template.shape))} voxels."
    )
    resources = files("augreg.report")
    script = "\n".join(resources.joinpath(name).read_text("utf-8") for name in ("maths.js", "planes.js", "model.js"))
    return page("Appearance model", lead, sections, resources.joinpath("model.css").read_text("utf-8"), script)


def _explorer(model: AppearanceModel) -> str:
    # inside a script element only its end tag ends it
    numbers = json.dumps(payload(model), separators=(",", ":")).replace("<", "\\u003c")
    # the nodes of a dense model would hide everything
    shown = [] if model.maps.dense else [("landmarks", "landmarks")]
    if model.ndim == 2:
        shown.insert(0, ("grid", "grid"))
    if model.labels is not None:
        shown.insert(0, ("outlines", "structures"))
    boxes = "".join(f'<label><input type="checkbox" data-show="{key}">{text}</label>' for key, text in shown)
    volume = " volume" if model.ndim == 3 else ""
    return (
        '<noscript><p class="warning">This section and the next need JavaScript.</p></noscript>'
        f'<div class="explorer{volume}"><div class="planes" id="instance"></div><div class="controls">'
        + _sliders("shape", "Shape", model.shape.variance)
        + _sliders("texture", "Texture", model.appearance.variance)
        + (_slices(model) if model.ndim == 3 else "")
        + '<div><div class="row"><button type="button" id="reset">Mean</button><button type="button" id="random">Random</button>'
        '<label>seed <input type="number" id="seed" value="1" min="0"></label></div>'
        f'<div class="row">Show {boxes}</div>'
        '<p class="warning" id="folded" role="status" hidden>This shape folds over itself: too far from the mean for anatomy.</p>'
        f'</div></div></div><script type="application/json" id="model">{numbers}</script>'
    )


def _sliders(part: str, title: str, variance: FloatArray) -> str:
    rows = []
    for k, share in enumerate(variance[:MODES] / variance.sum(), start=1):
        name = f"{part}-{k}"
        rows.append(
            f'<div class="slider"><label for="{name}">{html.escape(title)} {k}</label><small>{100 * share:.1f} %</small>'
            f'<input type="range" id="{name}" min="-3" max="3" step="0.05" value="0">'
            f'<output id="{name}-value" for="{name}">0.0</output></div>'
        )
    return f"<fieldset><legend>{html.escape(title)} (SD)</legend>{''.join(rows)}</fieldset>"


def _slices(model: AppearanceModel) -> str:
    rows = []
    for a, n in enumerate(shown_grid(model.template).shape):
        name = f"slice-{_AXES[a]}"
        rows.append(
            f'<div class="slider"><label for="{name}">Slice {_AXES[a]}</label><small></small>'
            f'<input type="range" id="{name}" data-slice="{a}" min="0" max="{n - 1}" step="1" value="{n // 2}">'
            f'<output id="{name}-value" for="{name}">{n // 2}</output></div>'
        )
    return f"<fieldset><legend>Slices</legend>{''.join(rows)}</fieldset>"


def _locality(model: AppearanceModel) -> str:
    parts = []
    for part, title, unit in (("shape", "Shape: moves together", "mm"), ("texture", "Texture: brightens together", "intensity")):
        parts.append(
            f'<div><h3>{title}</h3><p class="note">SD at this place: <span id="locality-{part}-deviation"></span> {unit}</p>'
            f'<div class="planes" id="locality-{part}"></div></div>'
        )
    ends = "".join(f"<span>{text}</span>" for text in ("−1 opposite", "0 independent", "+1 together"))
    scale = f'<div class="scale"></div><div class="ends">{ends}</div>'
    volume = " volume" if model.ndim == 3 else ""
    return f'<div class="maps{volume}">{"".join(parts)}</div>{scale}'


def _missing(diagrams: Sequence[Diagram]) -> str:
    if diagrams:
        return "Measured on images that the model has not seen, and from the model itself."
    return (
        "From the model itself. Generalisation, and specificity against real shapes, need images that the model has not seen: "
        "augreg sam show MODEL.npz --images IMAGES... --labels LABELS... -o PAGE.html."
    )


def _curves(diagrams: Sequence[Diagram]) -> str:
    parts = []
    for diagram in diagrams:
        picture = figures.plot(plot_diagram(diagram), size=(5.2, 3.2))
        parts.append(
            f"<div><h3>{html.escape(diagram.title)}</h3>{figure(picture, diagram.title)}"
            f'<p class="note">{html.escape(diagram.text)}</p></div>'
        )
    return f'<div class="maps curves">{"".join(parts)}</div>'


def _wall(model: AppearanceModel, rng: np.random.Generator) -> list[str]:
    grid = model.template
    real = [Image(texture.reshape(grid.shape), grid) for texture in model.textures[:_COLUMNS]]
    made = [model.sample(rng) for _ in range(_SAMPLES[model.ndim])]
    low, high = np.percentile(model.textures, (1, 99))
    width, height = grid.sides[:2]

    def panels(images: Sequence[Image]) -> str:
        draws = [("", figures.picture(image, (float(low), float(high)))) for image in images]
        return figures.panels(draws, columns=_COLUMNS, aspect=height / width)

    return [
        section(
            "Invented images",
            f"{len(made)} random samples: shape, pose and texture drawn from the model. None of them is a training image.",
            figure(panels(made), "samples of the model"),
        ),
        section(
            "Real textures",
            "Intensities of training images, for comparison. The model keeps them in its mean shape, so all outlines agree here.",
            figure(panels(real), "training textures in the mean shape"),
        ),
    ]

"""
Two sections in different stains
================================

Neighbouring sections of tissue are stained differently, and deform on their way to the slide. Here a section with two stains
(skimage's immunohistochemistry, 512 x 512 pixels) is taken apart into its stains. The fixed image is the section; the moving
one has a third of the antibody, and is turned and bent by a known map. So what a registration finds can be held against the
truth.
"""

# %%
# The images
# ----------

import matplotlib.pyplot as plt
import numpy as np
import skimage.color
import skimage.data

import augreg as ar
from augreg.report.figures import deformed_grid, overlay, picture

section = skimage.data.immunohistochemistry()
stains = skimage.color.rgb2hed(section)  # haematoxylin, eosin, antibody
grid = ar.Grid((512, 512))


def stained(antibody):
    """The tissue with a share of its antibody, grey."""
    colours = skimage.color.hed2rgb(stains * [1.0, 0.0, antibody])
    return ar.Image(skimage.color.rgb2gray(colours).T.astype(np.float32), grid)  # x first


rng = np.random.default_rng(4)
turn = ar.Affine.about(np.array([[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]]), [255.5, 255.5], [12.0, -7.0])
bend = ar.BSpline(rng.uniform(-6, 6, (8, 8, 2)), ar.Grid((8, 8), spacing=(102.4, 102.4), origin=(-102.4, -102.4)))
truth = turn @ bend  # from the section to its neighbour

fixed = stained(1.0)
moving = ar.warp(stained(0.3), truth.inverse(), grid, fill=1.0)

_, axes = plt.subplots(1, 2, figsize=(7, 3.7), layout="constrained")
for ax, (title, image) in zip(axes, {"fixed": fixed, "moving: a third of the antibody": moving}.items(), strict=True):
    picture(image)(ax)
    ax.set_title(title, fontsize=9)
    ax.set_axis_off()

# %%
# Registration
# ------------
# `steps` yields a state after every iteration; the last one has the result, and warnings where there is something to doubt.

points = np.stack(np.meshgrid(np.linspace(60, 450, 9), np.linspace(60, 450, 9), indexing="ij"), -1).reshape(-1, 2)


def errors(phi):
    """Distances from the truth, pixels."""
    return np.linalg.norm(phi(points) - truth(points), axis=1)


*_, state = ar.LPRegistration().steps(fixed, moving)
found = errors(state.transform)
print(f"{state.stage}; {state.seconds:.2f} s; warnings: {list(state.warnings)}")
before = np.median(errors(ar.Affine.identity(2)))
print(f"error: median {np.median(found):.2f} pixels, largest {found.max():.2f}; before {before:.1f}")
print(f"least determinant of the Jacobian: {ar.jacobian_determinant(state.transform, grid).min():.2f}")

# %%
# The result
# ----------

moved = ar.warp(moving, state.transform, grid)
_, axes = plt.subplots(1, 3, figsize=(10, 3.7), layout="constrained")
pictures = (overlay(fixed, moving), overlay(fixed, moved), deformed_grid(fixed, state.transform))
for ax, title, draw in zip(axes, ("before", "after", "what was done"), pictures, strict=True):
    draw(ax)
    ax.set_title(title, fontsize=9)
    ax.set_axis_off()

# %%
# When stains have too little in common
# -------------------------------------
# Without any antibody the two images show different things, and no criterion finds the map. It is not silent about it: read
# warnings.

bare = ar.warp(stained(0.0), truth.inverse(), grid, fill=1.0)
for criterion in ("ncc", "mi"):
    *_, state = ar.LPRegistration(criterion=criterion).steps(fixed, bare)
    print(
        f"{criterion}: median error {np.median(errors(state.transform)):.2f} pixels; {'; '.join(state.warnings) or 'no warning'}"
    )

# %%
# In the shell the same is one line, with a page that shows it::
#
#     augreg register fixed.png moving.png -o section.h5 --report page.html

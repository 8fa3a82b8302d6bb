"""
A loop with a deadline
======================

A camera, a probe, a scanner in the operating room: the fixed image stays, frames come, and the motion must be known before
the next frame. `prepare` makes once what depends on the fixed image alone; what it gives is a tracker, a callable `(frame,
initial) -> Transform`.
"""

# %%
# A scene in motion
# -----------------
# A photograph, turned and shifted by a known motion, in bytes and with noise.

import time

import matplotlib.pyplot as plt
import numpy as np
import skimage.data

import augreg as ar

photograph = skimage.data.camera().astype(np.float32)  # 512 x 512
rng = np.random.default_rng(0)


def motion(k):
    """Where the scene has gone after k frames."""
    angle = 0.07 * np.sin(k / 12)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return ar.Affine.about(turn, [255.5, 255.5], [15 * np.sin(k / 9), 10 * np.sin(k / 14)])


def frame(k):
    """What a camera sees then."""
    return (ar.warp(photograph, motion(k).inverse()) + rng.normal(0, 3, photograph.shape)).clip(0, 255).astype(np.uint8)


# %%
# The loop
# --------
# Each frame starts where the last one ended. `tracker(image, initial=last)` gives the transform alone; `steps` also tells how
# it was found.

tracker = ar.LPRegistration(transform="rigid").prepare(frame(0))
corners = np.array([[60.0, 60.0], [60.0, 450.0], [450.0, 60.0], [450.0, 450.0]])
last, latencies, errors = ar.Affine.identity(2), [], []
for k in range(60):
    image = frame(k)
    begin = time.perf_counter()
    *_, state = tracker.steps(image, initial=last)
    latencies.append(1000 * (time.perf_counter() - begin))
    for text in state.warnings:
        print(f"frame {k}: {text}")
    last = state.transform
    errors.append(np.linalg.norm(last(corners) - motion(k)(corners), axis=1).mean())

print(f"error: median {np.median(errors):.3f} pixels, largest {max(errors):.3f}")
print(f"latency: median {np.median(latencies[1:]):.1f} ms, largest {max(latencies[1:]):.1f} ms")

# %%
# The first frame of a process compiles kernels, or reads them from the cache; `augreg compile` does that ahead. The others:

_, ax = plt.subplots(figsize=(7, 2.6), layout="constrained")
ax.hist(latencies[1:], bins=20)
ax.set_xlabel("milliseconds for a frame")
ax.set_ylabel("frames")

# %%
# What a tracker keeps, what it does with frames that are lost, and what it does not do: :doc:`../how-to/loops`.

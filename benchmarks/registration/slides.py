"""Two sections as slides of 20 000 pixels: rTRE beside that of the small images, CPU seconds and peak memory of the commands.

The pairs of `histology` are scaled up until their longest side has `--side` pixels: the fixed one as a pyramidal OME-TIFF, the
moving one as Aperio's SVS with levels of a quarter and a sixteenth, both of 0.0005 mm a pixel, in JPEG tiles. Landmarks are
scaled alike, to mm. `square` are images on a square of that side, filled up with the colour of their corner, which makes another
task of it: small images on a square stand beside them. `augreg register`, and of squares `augreg warp` to a pyramid of full size,
each in a process of its own, of which CPU seconds (with imports) and the peak of the resident memory are measured. rTRE is
divided by the diagonal of the image without the square around it.

Is rTRE of slides another one because something is shifted, or because any other size of the images changes it? `apart` is how far
the map between slides takes the landmarks from where the map between the small images does, in pixels of the small moving image:
the mean vector, which a shift would show in, and the median length. `--sizes` registers the small images at other sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image as Pillow

import augreg as ar
from augreg.io.formats.ome_pyramid import TILE, Pixels, write_pyramid
from augreg.io.slides import shrunk
from benchmarks.harness.page import heading, table
from benchmarks.harness.places import DATA
from benchmarks.harness.process import surroundings
from benchmarks.harness.record import Record, Row, about, read_record, write_record

PAIRS = {"kidney": ("kidney_HE", "kidney_PanCytokeratin"), "lesion": ("lesion_HE", "lesion_proSPC")}
# what the rows are called
_KINDS = {"small": "small", "slides": "slides", "small-square": "small, on a square", "square": "slides, on a square"}
_PIXEL = 0.0005
_APERIO = "Aperio Image Library v12.0.16\n{0}x{1} (256x256) JPEG/RGB Q=90|AppMag = 20|MPP = 0.5"


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--side", type=int, default=20000)
    parser.add_argument("--only", nargs="+", default=list(PAIRS), choices=list(PAIRS))
    parser.add_argument("--kinds", nargs="+", default=list(_KINDS), choices=list(_KINDS))
    parser.add_argument("--folder", type=Path, help="where slides are made, and found again; default a temporary one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sizes", nargs="+", type=int, default=[], help="longest sides of the small images, instead of slides")


def run(options: argparse.Namespace) -> None:
    """Make, register, warp."""
    record: Record = about(options.threads, ("numba", "numpy", "tifffile", "imagecodecs", "pillow"))
    before: Record = read_record(options.output) if options.output.exists() else {"rows": [], "sizes": []}
    if options.sizes:
        known = [row for row in before.get("sizes", []) if row["pair"] not in options.only]
        record = before | {"sizes": known + [by_size(name, side) for name in options.only for side in options.sizes]}
        write_record(options.output, record)
        return
    record |= {"side": options.side, "rows": [], "sizes": before.get("sizes", [])}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in options.only:
            for kind in options.kinds:
                row = {"pair": name, "kind": kind} | measured(name, kind, folder, options.side, options.threads)
                record["rows"].append(row)
                write_record(options.output, record)
                print(row, flush=True)


def measured(name: str, kind: str, folder: Path, side: int, threads: int) -> Row:
    """A pair registered, and for slides warped."""
    smalls = [DATA / "histology" / f"{part}.jpg" for part in PAIRS[name]]
    points = [ar.read_points(path.with_suffix(".csv")) for path in smalls]
    diagonal, files = ar.read_image(smalls[0]).grid.diagonal, smalls
    square = kind.endswith("square")
    if kind == "small-square":
        files = [folder / f"{part}.square.png" for part in PAIRS[name]]
        for small, file in zip(smalls, files, strict=True):
            with Pillow.open(small) as picture:
                length = max(picture.size)
                Pillow.fromarray(np.concatenate(list(_bands(picture.convert("RGB"), (length, length), length)))).save(file)
    elif kind != "small":
        files = [folder / f"{name}-{side}.{kind}.ome.tif", folder / f"{name}-{side}.{kind}.svs"]
        for k, (small, file) in enumerate(zip(smalls, files, strict=True)):
            factor = _scale(small, side)
            points[k] = ((points[k] + 0.5) * factor - 0.5) * _PIXEL
            if not file.exists():
                make_slide(small, file, side, square=square)
        diagonal *= _scale(smalls[0], side) * _PIXEL
    transform = folder / f"{name}.{kind}.h5"
    told, row = _command(["register", *map(str, files), "-o", str(transform), "--json"], threads)
    error = ar.tre(ar.read_transform(transform), *points) / diagonal * 100
    found: Row = {"rtre": float(np.median(error)), "rtre_mean": float(error.mean()), "rtre_max": float(error.max())}
    found |= {"register": row, "seconds": json.loads(told)["seconds"]}
    if kind == "slides" and (small_map := folder / f"{name}.small.h5").exists():
        start = ar.read_points(smalls[0].with_suffix(".csv"))
        there = (ar.read_transform(transform)(points[0]) / _PIXEL + 0.5) / _scale(smalls[1], side) - 0.5
        apart = there - ar.read_transform(small_map)(start)
        found["apart"] = {"mean": apart.mean(axis=0).tolist(), "median": float(np.median(np.linalg.norm(apart, axis=1)))}
    if kind == "square":
        moved = folder / f"{name}.moved.ome.tif"
        found["warp"] = _command(["warp", str(files[1]), "-t", str(transform), "-r", str(files[0]), "-o", str(moved)], threads)[1]
        found["warp"]["megabytes"] = moved.stat().st_size / 1e6
        moved.unlink()
    return found


def by_size(name: str, side: int) -> Row:
    """The small images at another size, registered by the library."""
    smalls = [DATA / "histology" / f"{part}.jpg" for part in PAIRS[name]]
    images, points = [], []
    for small in smalls:
        factor, picture = _scale(small, side), Pillow.open(small).convert("RGB")
        size = tuple(round(n * factor) for n in picture.size)
        values = np.asarray(picture.resize(size, Pillow.Resampling.BICUBIC)).swapaxes(0, 1)
        images.append(ar.Image(np.ascontiguousarray(values), ar.Grid(values.shape[:2])))
        points.append((ar.read_points(small.with_suffix(".csv")) + 0.5) * factor - 0.5)
    phi = ar.LPRegistration()(*images)
    error = ar.tre(phi, *points) / images[0].grid.diagonal * 100
    return {"pair": name, "side": side, "rtre": float(np.median(error)), "rtre_mean": float(error.mean())}


def _scale(small: Path, side: int) -> float:
    """By how much a small image is enlarged."""
    with Pillow.open(small) as picture:
        return side / max(picture.size)


def make_slide(small: Path, path: Path, side: int, *, square: bool) -> None:
    """A small image enlarged to that longest side, or on a square of it, as a pyramid in the format of the suffix."""
    picture = Pillow.open(small).convert("RGB")
    width, height = (side, side) if square else tuple(round(n * _scale(small, side)) for n in picture.size)
    with ar.io.atomic(path) as temporary:
        if path.suffix == ".svs":
            _write_svs(picture, temporary, (width, height))
            return
        pixels = Pixels((height, width), 1, 3, np.dtype(np.uint8), (_PIXEL, _PIXEL), compression="jpeg")
        write_pyramid(temporary, pixels, lambda _: _bands(picture, (width, height), TILE), lambda rows: shrunk(rows, 2))


def _write_svs(picture: Pillow.Image, path: Path, size: tuple[int, int]) -> None:
    """As Aperio does: the slide, a thumbnail in strips, coarser levels in pages of their own."""
    with tifffile.TiffWriter(path) as writer:
        about_it = {"description": _APERIO.format(*size), "metadata": None, "software": False}
        for level, factor in enumerate((1, 4, 16)):
            width, height = (n // factor for n in size)
            tiles = (tile for band in _bands(picture, (width, height), 256) for tile in _cut(band, 256))
            writer.write(tiles, shape=(height, width, 3), dtype=np.uint8, **about_it, **_jpeg(256))
            if level == 0:
                thumbnail = np.concatenate(list(_bands(picture, (size[0] // 32, size[1] // 32), 256)))
                writer.write(thumbnail, photometric="rgb", **about_it)


def _jpeg(tile: int) -> dict[str, object]:
    return {"tile": (tile, tile), "photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 90}}


def _bands(picture: Pillow.Image, size: tuple[int, int], rows: int) -> Iterator[np.ndarray]:
    """Rows of the enlarged image, filled up to a size with the colour of its corner."""
    factor = max(size) / max(picture.size)
    width, height = (min(whole, round(n * factor)) for n, whole in zip(picture.size, size, strict=True))
    for top in range(0, size[1], rows):
        band = np.empty((min(rows, size[1] - top), size[0], 3), np.uint8)
        band[:] = picture.getpixel((2, 2))
        inside = min(len(band), height - top)
        if inside > 0:
            box = (0, top / factor, min(width / factor, picture.width), min((top + inside) / factor, picture.height))
            band[:inside, :width] = np.asarray(picture.resize((width, inside), Pillow.Resampling.BICUBIC, box))
        yield band


def _cut(band: np.ndarray, tile: int) -> Iterator[np.ndarray]:
    """Tiles of a band, those at the border filled up."""
    for left in range(0, band.shape[1], tile):
        part = np.zeros((tile, tile, 3), np.uint8)
        seen = band[:, left : left + tile]
        part[: seen.shape[0], : seen.shape[1]] = seen
        yield part


def _command(words: Sequence[str], threads: int) -> tuple[str, Row]:
    """Standard output of a command, its CPU seconds and its peak memory."""
    started = subprocess.Popen(
        [sys.executable, "-m", "augreg", *words], env=surroundings(threads), stdout=subprocess.PIPE, encoding="utf-8"
    )
    assert started.stdout is not None
    text = started.stdout.read()
    _, status, usage = os.wait4(started.pid, 0)
    started.returncode = os.waitstatus_to_exitcode(status)
    started.stdout.close()
    if started.returncode:
        raise RuntimeError(f"augreg {' '.join(words)}: expected status 0, got {started.returncode}")
    return text, {"cpu": usage.ru_utime + usage.ru_stime, "megabytes_peak": usage.ru_maxrss / 1e3}


def rendered(record: Record) -> str:
    """A row a pair and kind."""
    rows = []
    for row in record["rows"]:
        warp = row.get("warp", {})
        rows.append(
            [
                f"{row['pair']}, {_KINDS[row['kind']]}",
                f"{row['rtre']:.3f}",
                f"{row['rtre_mean']:.3f}",
                f"{row['rtre_max']:.2f}",
                f"{row['register']['cpu']:.1f}",
                f"{row['register']['megabytes_peak']:.0f}",
                f"{warp['cpu']:.0f}" if warp else "",
                f"{warp['megabytes_peak']:.0f}" if warp else "",
            ]
        )
    header = ("pair", "rTRE, median %", "mean", "max", "register, CPU s", "peak MB", "warp, CPU s", "peak MB")
    return f"{heading(record)}\n\n{table(header, rows)}{_sizes(record)}"


def _sizes(record: Record) -> str:
    """What other sizes of the small images do, and whether slides are shifted."""
    lines = []
    for name in dict.fromkeys(row["pair"] for row in record.get("sizes", [])):
        mine = [row for row in record["sizes"] if row["pair"] == name]
        sides = [row["side"] for row in mine]
        both = [[row[part] for row in mine] for part in ("rtre", "rtre_mean")]
        apart = next((row["apart"] for row in record["rows"] if row["pair"] == name and "apart" in row), None)
        spread = [f"{np.median(values):.3f} ({min(values):.3f} to {max(values):.3f})" for values in both]
        shift = "" if apart is None else f"({apart['mean'][0]:.2f}, {apart['mean'][1]:.2f}); {apart['median']:.2f}"
        lines.append([name, f"{len(sides)} from {min(sides)} to {max(sides)}", *spread, shift])
    header = (
        "pair",
        "sizes, pixels",
        "rTRE, median %: of all sizes (least to most)",
        "mean",
        "slides against small, px: mean; median",
    )
    return f"\n{table(header, lines)}" if lines else ""

"""Slides: parts are what tifffile reads, levels lie in one world, warps by tiles are warps of the whole."""

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter
from support.files import numbers

import augreg as ar
from augreg import io
from augreg.io import FileWarning
from augreg.io.slide_warp import local_map
from augreg.io.slides import OVERVIEW, shrunk

SMOOTH = np.stack([gaussian_filter(numbers(700, 530, seed=s).astype(float), 3) for s in range(3)], axis=-1)
RGB = ((SMOOTH - SMOOTH.min()) / np.ptp(SMOOTH) * 255).astype(np.uint8)
MICROMETRES = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 500.0, "PhysicalSizeYUnit": "nm"}


def pyramid(path, pixels=RGB, levels=3, notes=MICROMETRES, **options):
    options = {"tile": (64, 64), "photometric": "rgb", **options}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(pixels, subifds=levels - 1, metadata={"axes": "YXS", **notes}, **options)
        for k in range(1, levels):
            writer.write(shrunk(pixels, 2**k), subfiletype=1, **options)
    return path


def aperio(path, said="|AppMag = 20|MPP = 0.25", pixels=RGB):
    with tifffile.TiffWriter(path) as writer:
        for k, factor in enumerate((1, 4)):
            about = {"description": f"Aperio Image Library v12\n{said}", "metadata": None, "software": False}
            writer.write(shrunk(pixels, factor), tile=(64, 64), photometric="rgb", compression="jpeg", **about)
            if k == 0:
                writer.write(shrunk(pixels, 8), photometric="rgb", **about)
    return path


def one_line(path, *words, call=ar.read_slide):
    with pytest.raises(ValueError, match=r".") as caught:
        call(path)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(("size", "level"), [(0.5, 0), (1.0, 0), (2.0, 1), (3.9, 1), (4.0, 2), (9.0, 2)])
def test_a_warp_reads_the_coarsest_level_that_is_fine_enough(size, level, tmp_path):
    """Each level has a value of its own, so the result says which it was made of."""
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        for k, side in enumerate((512, 256, 128)):
            more = {"subifds": 2, "metadata": {"axes": "YX", **MICROMETRES}} if k == 0 else {"subfiletype": 1}
            writer.write(np.full((side, side), 50 + k, np.uint8), tile=(64, 64), photometric="minisblack", **more)
    slide = ar.read_slide(tmp_path / "a.ome.tif")
    grid = ar.Grid((40, 30), slide.grid.spacing, tuple(slide.grid.center / size))
    io.warp_slide(slide, ar.Affine(size * np.eye(2)), grid, tmp_path / "b.tif")
    moved = ar.read_image(tmp_path / "b.tif").values
    assert moved[5, 5] == 50 + level


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib", "predictor": True},
        {"compression": "jpeg"},
        {"tile": None, "rowsperstrip": 16, "compression": "lzw"},
        {"byteorder": ">"},
    ],
    ids=["raw", "deflate", "jpeg", "strips", "big-endian"],
)
def test_levels_and_parts_are_what_tifffile_reads(options, tmp_path):
    byteorder = options.pop("byteorder", "<") if "byteorder" in options else "<"
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True, byteorder=byteorder) as writer:
        more = {"tile": (64, 64), "photometric": "rgb", **options}
        writer.write(RGB, subifds=1, metadata={"axes": "YXS", **MICROMETRES}, **more)
        writer.write(shrunk(RGB, 2), subfiletype=1, **more)
    slide = ar.read_slide(path)
    assert (slide.noted, slide.colour, slide.channels) == (True, True, (0, 1, 2))
    with tifffile.TiffFile(path) as file:
        theirs = [level.asarray().swapaxes(0, 1) for level in file.series[0].levels]
    for number, values in enumerate(theirs):
        np.testing.assert_array_equal(slide.level(number).values, values)
        part = slide.part(number, (37, 101), (150, 77))
        np.testing.assert_array_equal(part.values, values[37:187, 101:178])
        np.testing.assert_allclose(part.grid.points(), slide.grids[number].points()[37:187, 101:178], atol=1e-12)
    # the whole image lies where the slide does
    assert ar.read_image(path).grid == slide.grid == ar.Grid((530, 700), (0.0005, 0.0005))
    np.testing.assert_array_equal(ar.read_image(f"{path}?level=1&channel=2").values, theirs[1][..., 2])


@pytest.mark.parametrize("tile", [(64, 64), None])
@pytest.mark.parametrize("compression", ["zlib", None])
def test_channels_by_number_and_name(tile, compression, tmp_path):
    planes = numbers(3, 90, 120, dtype=np.uint16)
    notes = {"axes": "CYX", "Channel": {"Name": ["DAPI", "CD3", "CD8"]}, **MICROMETRES}
    path = tmp_path / "c.ome.tif"
    tifffile.imwrite(path, planes, ome=True, photometric="minisblack", tile=tile, compression=compression, metadata=notes)
    for asked, number in (("DAPI", 0), ("CD8", 2), ("1", 1)):
        np.testing.assert_array_equal(ar.read_slide(f"{path}?channel={asked}").overview().values, planes[number].T)
    np.testing.assert_array_equal(ar.read_slide(path).overview().values, planes.T.swapaxes(0, 0))
    one_line(f"{path}?channel=CD4", "0 to 2", "DAPI", "'CD4'")
    # files that are no slides have channels too
    tifffile.imwrite(tmp_path / "plain.tif", planes.transpose(1, 2, 0), photometric="minisblack", planarconfig="contig")
    np.testing.assert_array_equal(ar.read_image(f"{tmp_path / 'plain.tif'}?channel=1").values, planes[1].T)
    one_line(f"{tmp_path / 'plain.tif'}?channel=7", "0 to 2", call=ar.read_image)


def test_a_point_has_the_same_place_on_all_levels(tmp_path):
    # a ramp along x and y: its values are where its pixels are
    y, x = np.mgrid[:700, :530]
    ramp = np.stack([x, y], axis=0).astype(np.float32)
    path = tmp_path / "r.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        more = {"tile": (64, 64), "photometric": "minisblack"}
        writer.write(ramp, subifds=2, metadata={"axes": "CYX", **MICROMETRES}, **more)
        for k in (2, 4):
            writer.write(shrunk(ramp.transpose(1, 2, 0), k).transpose(2, 0, 1).copy(), subfiletype=1, **more)
    slide = ar.read_slide(path)
    for number, grid in enumerate(slide.grids):
        np.testing.assert_allclose(slide.level(number).values * 0.0005, grid.points(), atol=1e-6)
        np.testing.assert_allclose(slide.level(number, 2).values * 0.0005, slide.level(number, 2).grid.points(), atol=1e-6)


def test_sizes_of_pixels_are_taken_from_headers_that_can_be_trusted(tmp_path):
    assert ar.read_slide(aperio(tmp_path / "a.svs")).grid.spacing == (0.00025, 0.00025)
    assert ar.read_image(tmp_path / "a.svs").grid.spacing == (0.00025, 0.00025)
    assert not ar.read_slide(aperio(tmp_path / "b.svs", said="")).noted
    assert ar.read_slide(f"{tmp_path / 'b.svs'}?pixel=0.002").grids[1].spacing == (0.008, 0.008)
    # resolution tags: those of slides, not of printers
    for unit, count, mm in (("CENTIMETER", 20000, 0.0005), ("INCH", 50800, 0.0005), ("INCH", 72, None)):
        with tifffile.TiffWriter(tmp_path / "p.tif") as writer:
            for factor in (1, 2):
                more = {"resolution": (count / factor, count / factor), "resolutionunit": unit, "metadata": None}
                writer.write(shrunk(RGB, factor), tile=(64, 64), photometric="rgb", subfiletype=int(factor > 1), **more)
        slide = ar.read_slide(tmp_path / "p.tif")
        assert (slide.noted, slide.grid.spacing) == (mm is not None, (mm or 1.0, mm or 1.0))


@pytest.mark.parametrize(
    "notes",
    [
        MICROMETRES | {"PhysicalSizeX": 0.0},
        MICROMETRES | {"PhysicalSizeX": 1e9},
        MICROMETRES | {"PhysicalSizeX": 50.0},
        MICROMETRES | {"PhysicalSizeX": -0.5},
        MICROMETRES | {"PhysicalSizeX": "NaN"},
    ],
)
def test_sizes_that_no_pixel_has_are_refused_with_the_way_out(notes, tmp_path):
    path = pyramid(tmp_path / "a.ome.tif", notes=notes)
    one_line(path, "a.ome.tif", "which no pixel has", "?pixel=")
    one_line(path, "which no pixel has", call=ar.read_image)
    assert ar.read_slide(f"{path}?pixel=0.0005").noted


def test_damage_is_told_in_a_line(tmp_path):
    path = pyramid(tmp_path / "a.ome.tif", compression="jpeg")
    whole = path.read_bytes()
    for share in (0.02, 0.5, 0.99):
        (tmp_path / "cut.ome.tif").write_bytes(whole[: int(share * len(whole))])
        one_line(tmp_path / "cut.ome.tif", "cut.ome.tif")
    with tifffile.TiffFile(path) as file:
        page = file.series[0].levels[1].pages[0]
        at, count = page.dataoffsets[3], page.databytecounts[3]
    (tmp_path / "hole.ome.tif").write_bytes(whole[:at] + bytes(count) + whole[at + count :])
    slide = ar.read_slide(tmp_path / "hole.ome.tif")
    slide.part(1, (0, 0), (64, 64))
    one_line(slide, "damaged one, number 3 of level 1", "hole.ome.tif", call=lambda s: s.level(1))
    for question in ("level=9", "level=x", "channel=", "pixel=-1", "pixel=x", "level=1&side=2"):
        one_line(f"{path}?{question}", "expected")
    tifffile.imwrite(tmp_path / "plain.tif", RGB)
    one_line(tmp_path / "plain.tif", "expected a slide")
    assert io.slide_at(tmp_path / "plain.tif") is None
    assert io.slide_at(tmp_path / "nothing.tif") is None


def test_registration_gets_a_level_of_its_size_and_is_told_where_there_is_none(tmp_path):
    tall = np.repeat(numbers(4 * OVERVIEW + 40, 1), 24, axis=1)
    with tifffile.TiffWriter(tmp_path / "t.ome.tif", ome=True) as writer:
        writer.write(tall, subifds=1, tile=(512, 512), photometric="minisblack", metadata={"axes": "YX", **MICROMETRES})
        writer.write(shrunk(tall[..., None], 2)[..., 0], subfiletype=1, tile=(512, 512), photometric="minisblack")
    slide = ar.read_slide(tmp_path / "t.ome.tif")
    image = slide.overview()
    assert image.grid == slide.overview_grid
    assert OVERVIEW // 2 <= max(image.grid.shape) < OVERVIEW
    np.testing.assert_array_equal(image.values, slide.level(1, 4).values)
    tifffile.imwrite(
        tmp_path / "one.ome.tif",
        tall,
        ome=True,
        photometric="minisblack",
        tile=(512, 512),
        metadata={"axes": "YX", **MICROMETRES},
    )
    with pytest.warns(FileWarning, match="no level near"):
        image = ar.read_slide(tmp_path / "one.ome.tif").overview()
    np.testing.assert_array_equal(image.values, shrunk(tall[..., None], 8)[..., 0].T)


def transforms(grid):
    linear = ar.Affine([[1.02, 0.3], [-0.25, 0.97]], [-0.06, 0.05])
    spline = ar.BSpline.zeros(grid, 0.08)
    values = np.random.default_rng(0).normal(0, 0.004, spline.coefficients.shape)
    free = spline.free.reshape(*spline.free.shape, *[1] * (values.ndim - spline.free.ndim))
    return linear, linear @ ar.BSpline(np.where(free, values, 0.0), spline.grid)


@pytest.mark.parametrize("number", [0, 1], ids=["affine", "elastic"])
def test_a_warp_by_tiles_is_the_warp_of_the_whole(number, tmp_path):
    path = pyramid(tmp_path / "m.ome.tif", compression="zlib")
    grid = ar.Grid((1101, 643), (0.0004, 0.0004))
    phi = transforms(grid)[number]
    io.warp_slide(ar.read_slide(path), phi, grid, tmp_path / "w.ome.tif", fill=9)
    whole = ar.warp(ar.read_image(path), phi, grid, fill=9).values
    moved = ar.read_slide(tmp_path / "w.ome.tif")
    found = moved.level(0)
    inside = ar.read_image(path).grid.contains(phi(grid.points()), margin=-1.0)
    assert 0.2 < inside.mean() < 0.9
    assert found.grid == grid
    np.testing.assert_allclose(found.values[inside].astype(int), whole[inside], atol=0 if number == 0 else 3)
    outside = ~ar.read_image(path).grid.contains(phi(grid.points()), margin=1.5)
    assert (found.values[outside] == 9).all()
    # others read it, with its levels and sizes
    with tifffile.TiffFile(tmp_path / "w.ome.tif") as file:
        levels = [level.asarray() for level in file.series[0].levels]
        assert 'PhysicalSizeX="0.4' in file.ome_metadata
        assert file.pages.first.is_tiled
    np.testing.assert_array_equal(levels[0].swapaxes(0, 1), found.values)
    np.testing.assert_array_equal(levels[1], shrunk(levels[0], 2))
    assert [level.shape[:2] for level in levels] == [(643, 1101), (321, 550)]


def test_what_stands_for_a_transform_on_a_tile_misses_it_by_a_fraction_of_a_pixel():
    grid = ar.Grid((1101, 643), (0.0004, 0.0004))
    for phi in transforms(grid):
        for corner in ((0, 0), (512, 0), (1024, 512)):
            tile = ar.Grid((77, 131), grid.spacing, tuple(grid.points_at(corner)))
            near, reach = local_map(phi, tile, 0.0004)
            assert np.abs(near(tile.points()) - phi(tile.points())).max() < 0.1 * 0.0004
            low, high = reach.reshape(-1, 2).min(axis=0), reach.reshape(-1, 2).max(axis=0)
            images = phi(tile.points())
            assert (images >= low - 0.0004).all()
            assert (images <= high + 0.0004).all()
    # a field with kinks: its nodes are those of the lattice, and nothing is lost
    values = np.random.default_rng(0).normal(0, 0.001, (40, 30, 2))
    kinked = ar.DisplacementField(values, ar.Grid((40, 30), (0.0128, 0.0192), (-0.0033, -0.0017)))
    tile = ar.Grid((77, 131), grid.spacing, (0.1, 0.15))
    near, _ = local_map(kinked, tile, 0.0004)
    assert near.grid.size < tile.size / 50
    assert np.abs(near(tile.points()) - kinked(tile.points())).max() < 1e-9
    # a step at the border of a domain is no matter of a lattice
    field = ar.DisplacementField(np.full((9, 9, 2), 0.01), ar.Grid((9, 9), (0.005, 0.005)))
    tile = ar.Grid((128, 128), (0.0004, 0.0004), (0.02, 0.02))
    near, _ = local_map(field, tile, 0.0004)
    assert np.abs(near(tile.points()) - field(tile.points())).max() < 1e-12


def test_labels_and_channels_keep_their_values(tmp_path):
    labels = np.kron(numbers(90, 70) % 5, np.ones((20, 20), np.uint8)).astype(np.uint16)
    still, grid = ar.Affine.identity(2), ar.Grid(labels.shape, (0.01, 0.01))
    io.warp_slide(ar.Labels(labels, grid), still, grid, tmp_path / "l.ome.tif")
    slide = ar.read_slide(tmp_path / "l.ome.tif")
    np.testing.assert_array_equal(slide.level(0).values, labels)
    assert set(np.unique(slide.level(1).values)) <= set(range(5))
    with pytest.raises(ValueError, match="use deflate"):
        io.warp_slide(ar.Labels(labels, grid), still, grid, tmp_path / "l.ome.tif", compression="jpeg")
    planes = numbers(2, 700, 650, dtype=np.uint16)
    notes = {"axes": "CYX", "Channel": {"Name": ["DAPI", "CD3"]}, **MICROMETRES}
    tifffile.imwrite(tmp_path / "c.ome.tif", planes, ome=True, photometric="minisblack", tile=(64, 64), metadata=notes)
    source = ar.read_slide(tmp_path / "c.ome.tif")
    io.warp_slide(source, still, source.grid, tmp_path / "w.ome.tif")
    moved = ar.read_slide(tmp_path / "w.ome.tif")
    assert moved.names == ("DAPI", "CD3")
    np.testing.assert_array_equal(moved.level(0).values, planes.T.swapaxes(0, 0))


def test_a_tile_that_cannot_be_read_costs_no_older_file(tmp_path):
    path = pyramid(tmp_path / "m.ome.tif", compression="jpeg", levels=1)
    with tifffile.TiffFile(path) as file:
        at = file.pages.first.dataoffsets[-1]
    content = path.read_bytes()
    path.write_bytes(content[:at] + bytes(500) + content[at + 500 :])
    old = tmp_path / "w.ome.tif"
    old.write_bytes(b"old")
    slide = ar.read_slide(path)
    with pytest.raises(ValueError, match="damaged"):
        io.warp_slide(slide, ar.Affine.identity(2), slide.grid, old)
    assert old.read_bytes() == b"old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.ome.tif", "w.ome.tif"]


def test_openslide_sees_the_same_pixels_and_sizes(tmp_path):
    openslide = pytest.importorskip("openslide", reason="the extra `slides` is not installed")
    from augreg.io.formats.openslide_levels import OpenSlideLevels

    large = np.kron(RGB, np.ones((2, 2, 1), np.uint8))
    path = aperio(tmp_path / "a.svs", pixels=large)
    slide = ar.read_slide(path)
    with openslide.OpenSlide(str(path)) as theirs:
        assert theirs.level_dimensions == tuple(grid.shape for grid in slide.grids)
        levels = OpenSlideLevels(path, tuple(theirs.level_downsamples))
    for number in (0, 1):
        part = slide.part(number, (40, 30), (100, 80)).values.swapaxes(0, 1)
        np.testing.assert_array_equal(levels.rows(number, slice(30, 110), slice(40, 140), (0, 1, 2)), part)
    io.warp_slide(slide, ar.Affine.identity(2), slide.grid, tmp_path / "w.ome.tif")
    with openslide.OpenSlide(str(tmp_path / "w.ome.tif")) as theirs:
        assert theirs.dimensions == slide.grid.shape
        assert float(theirs.properties["openslide.mpp-x"]) == pytest.approx(0.25)

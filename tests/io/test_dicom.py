"""A place in a DICOM volume is where the tags put it, values are pydicom's or SimpleITK's; all else is refused in one line."""

import threading
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, generate_uid

from augreg import read_image, read_labels
from augreg.io import FileWarning

CT, MR, SEG = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.66.4"
SERIES = "1.2.826.0.1.3680043.2.1125.7"
RNG = np.random.default_rng
FILES = Path(pydicom.data.__file__).parent / "test_files"
UPRIGHT = [1, 0, 0, 0, 1, 0]


def dataset(pixels, position=(0, 0, 0), orientation=UPRIGHT, spacing=(0.8, 0.7), number=1, syntax=ExplicitVRLittleEndian, **tags):
    """A slice (rows, columns) of 16 bits; `spacing` of rows and columns."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = tags.pop("SOPClassUID", CT)
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.SeriesInstanceUID, made.StudyInstanceUID, made.Modality, made.InstanceNumber = SERIES, SERIES + ".1", "CT", number
    made.Rows, made.Columns = pixels.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 8 * pixels.dtype.itemsize
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, int(pixels.dtype.kind == "i")
    made.ImagePositionPatient = [f"{v:.6g}" for v in position]
    made.ImageOrientationPatient, made.PixelSpacing = [f"{v:.8g}" for v in orientation], list(spacing)
    for name, value in tags.items():
        setattr(made, name, value)
    made.PixelData = pixels.astype(pixels.dtype.newbyteorder(">" if syntax == ExplicitVRBigEndian else "<")).tobytes()
    made["PixelData"].VR = "OW"
    return made


def write(folder, slices, **tags):
    """Slices: (pixels, position, further tags)."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, (pixels, position, *more) in enumerate(slices):
        dataset(pixels, position, number=n + 1, **{**tags, **(more[0] if more else {})}).save_as(
            folder / f"{n:03d}.dcm", enforce_file_format=True
        )
    return folder


def volume(n=9, bead=5):
    """Slices (rows, columns) of int16 with a bead of 3 x 3 pixels around row 13, column 9 of one of them."""
    slices = RNG(0).integers(-20, 20, (n, 24, 20)).astype(np.int16)
    slices[bead, 12:15, 8:11] = 2000
    return slices


def where(image):
    """World place of the bead, by its mass."""
    mass = np.clip(image.values.astype(float) - 100, 0, None)
    indices = np.moveaxis(np.indices(mass.shape), 0, -1)
    return image.grid.points_at((mass[..., None] * indices).sum(axis=(0, 1, 2)) / mass.sum())


def told(position, orientation=UPRIGHT, spacing=(0.8, 0.7)):
    """The bead's place by the tags of its slice."""
    row, column = np.reshape(orientation, (2, 3))
    return np.asarray(position) + 9 * spacing[1] * row + 13 * spacing[0] * np.asarray(column)


def turned(*angles):
    """The orientation tag of an oblique plane and its normal."""
    axes = np.reshape(sitk.Euler3DTransform((0, 0, 0), *angles).GetMatrix(), (3, 3))
    return [*axes[:, 0], *axes[:, 1]], axes[:, 2]


@pytest.mark.parametrize("angles", [(0, 0, 0), (0.4, -0.2, 0.3), (np.pi / 2, 0, 0)])
@pytest.mark.parametrize("scale", [(1, 0), (2, -1024), (0.5, 3)])
def test_a_regular_series_is_read_as_simpleitk_reads_it_in_any_order_of_files(angles, scale, tmp_path):
    orientation, normal = turned(*angles)
    places = [(10, -20, 30) + 2.5 * k * normal for k in range(9)]
    order = RNG(1).permutation(9)
    scaled = {"RescaleSlope": str(scale[0]), "RescaleIntercept": str(scale[1])}
    write(tmp_path, [(volume()[k], places[k]) for k in order], orientation=orientation, **scaled)
    image = read_image(tmp_path)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    theirs = reader.Execute()
    values = sitk.GetArrayFromImage(theirs).T
    assert image.values.dtype == values.dtype
    np.testing.assert_array_equal(image.values, values)
    for index in ((0, 0, 0), (19, 23, 8), (9, 13, 5)):
        np.testing.assert_allclose(image.grid.points_at(index), theirs.TransformIndexToPhysicalPoint(index), atol=1e-4)
    np.testing.assert_allclose(image.grid.points_at((9, 13, 5)), told(places[5], orientation), atol=1e-4)


@pytest.mark.parametrize("angles", [(0, 0, 0), (0.3, 0.2, -0.4)])
@pytest.mark.parametrize("shift", [(0.0, 0.9), (0.4, -1.3)])
def test_a_tilted_gantry_is_straightened_so_that_the_bead_is_where_its_tags_are(angles, shift, tmp_path):
    orientation, normal = turned(*angles)
    row, column = np.reshape(orientation, (2, 3))
    places = [np.array((5.0, 6, -7)) + k * (2.5 * normal + shift[0] * row + shift[1] * column) for k in range(9)]
    write(tmp_path, [(volume()[k], places[k]) for k in range(9)], orientation=orientation)
    with pytest.warns(FileWarning, match="tilted by"):
        image = read_image(tmp_path)
    np.testing.assert_allclose(where(image), told(places[5], orientation), atol=0.05)
    assert image.values.dtype == np.int16
    assert image.values.min() == -20


def test_slightly_uneven_slices_are_interpolated_and_a_ramp_stays_one(tmp_path):
    heights = np.array([0.0, 2.4, 5.1, 7.5, 9.8, 12.5])
    ramp = [(np.full((24, 20), round(100 * z), np.int16), (0, 0, z)) for z in heights]
    write(tmp_path, ramp)
    with pytest.warns(FileWarning, match=r"from 2\.3 to 2\.7 mm apart"):
        image = read_image(tmp_path)
    world = image.grid.points()[..., 2]
    np.testing.assert_allclose(image.values, 100 * world, atol=1)


def test_slices_that_are_no_volume_are_refused_and_named(tmp_path):
    a = volume()
    up = [(a[k], (0, 0, 3.0 * k)) for k in range(9)]
    cases = {
        "one missing": ([*up[:4], *up[5:]], r"6 mm between 003\.dcm and 004\.dcm"),
        "spacing changes": ([(a[k], (0, 0, 3.0 * k + 2 * max(0, k - 4))) for k in range(9)], "spacing changes"),
        "a copy": ([*up, up[3]], r"1 of 9 places \(003\.dcm and 009\.dcm\)"),
        "all at one place": ([(a[k], (0, 0, 0)) for k in range(9)], r"9 images at one place.*frame=N"),
        "in one plane": ([(a[k], (40 * k, 0, 0)) for k in range(3)], "in one plane"),
        "a scout": ([(a[0], (-40, 0, 0), {"orientation": [0, 1, 0, 0, 0, -1]}), *up], "2 groups.*1 sagittal.*9 axial.*group=K"),
        "sizes": ([*up, (a[0, :20], (0, 0, 27))], "20 x 24 pixels.*20 x 20 pixels"),
        "spacings": ([*up, (a[0], (0, 0, 27), {"spacing": (1.0, 1.0)})], "2 groups"),
        "steps sideways": ([(a[k], (5.0 * k, 0, 3.0 * k)) for k in range(9)], "shifted by"),
    }
    for name, (slices, word) in cases.items():
        with pytest.raises(ValueError, match=word) as caught:
            read_image(write(tmp_path / name, slices))
        assert "\n" not in str(caught.value)
    chosen = read_image(f"{tmp_path / 'a scout'}?group=2")
    np.testing.assert_array_equal(chosen.values, a.transpose(2, 1, 0))
    np.testing.assert_array_equal(read_image(f"{tmp_path / 'all at one place'}?frame=4").values, a[3].T)
    np.testing.assert_array_equal(read_image(f"{tmp_path / 'a copy'}?frame=1").values, a.transpose(2, 1, 0))
    for question, word in (("frame=8", "from 1 to 2"), ("frame=0", "from 1"), ("frame=x", "number"), ("series=9", "series")):
        with pytest.raises(ValueError, match=word):
            read_image(f"{tmp_path / 'a copy'}?{question}")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("AcquisitionTime", ["101500.25", "101500.75", "101501.5"]),
        ("EchoTime", ["4.6", "9.2", "13.8"]),
        ("TemporalPositionIdentifier", ["1", "2", "10"]),
        ("DiffusionBValue", [0.0, 500.0, 1000.0]),
        ("ImageType", [["ORIGINAL", "PRIMARY", kind] for kind in "IMP"]),
    ],
)
def test_volumes_of_one_place_are_asked_for_in_their_order(name, values, tmp_path):
    a = volume()
    slices = [(a[k] + 100 * t, (0, 0, 3.0 * k), {name: values[t]}) for k in range(9) for t in range(3)]
    write(tmp_path, [slices[i] for i in RNG(2).permutation(27)], SOPClassUID=MR)
    with pytest.raises(ValueError, match=f"3 of 9 slices at the same places .1: {name}="):
        read_image(tmp_path)
    for t in range(3):
        image = read_image(f"{tmp_path}?series={SERIES}&frame={t + 1}")
        np.testing.assert_array_equal(image.values, (a + 100 * t).transpose(2, 1, 0))
        assert image.grid.spacing == (0.7, 0.8, 3.0)


def test_slopes_of_each_slice_are_used(tmp_path):
    a = volume()
    slopes = [f"{1 / (k + 1):.6f}" for k in range(9)]
    write(tmp_path, [(a[k], (0, 0, 3.0 * k), {"RescaleSlope": slopes[k], "RescaleIntercept": str(k)}) for k in range(9)])
    expected = np.stack([a[k] * float(slopes[k]) + k for k in range(9)])
    np.testing.assert_allclose(read_image(tmp_path).values, expected.transpose(2, 1, 0), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.uint32])
def test_big_endian_values_are_right(dtype, tmp_path):
    pixels = RNG(3).integers(0, np.iinfo(dtype).max, (7, 6), endpoint=True).astype(dtype)
    dataset(pixels, syntax=ExplicitVRBigEndian).save_as(tmp_path / "i.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read_image(tmp_path / "i.dcm").values, pixels.T)
    one = read_image(FILES / "SC_rgb_small_odd_big_endian.dcm").values
    np.testing.assert_array_equal(one, pydicom.dcmread(FILES / "SC_rgb_small_odd_big_endian.dcm").pixel_array.swapaxes(0, 1))


def item(**tags):
    made = Dataset()
    for name, value in tags.items():
        setattr(made, name, value)
    return Sequence([made])


def multiframe(frames, path, *, bits=16, **tags):
    """Frames: (pixels, position, functional groups)."""
    pixels = np.stack([frame[0] for frame in frames])
    made = dataset(frames[0][0].astype(np.uint16), **tags)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(made, name)
    made.NumberOfFrames = len(frames)
    shared = Dataset()
    shared.PixelMeasuresSequence = item(PixelSpacing=[0.8, 0.7], SpacingBetweenSlices=3)
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=UPRIGHT)
    made.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for _, position, more in frames:
        group = Dataset()
        group.PlanePositionSequence = item(ImagePositionPatient=list(position))
        for name, value in more.items():
            setattr(group, name, value)
        groups.append(group)
    made.PerFrameFunctionalGroupsSequence = Sequence(groups)
    made.BitsAllocated = made.BitsStored = bits
    made.HighBit = bits - 1
    packed = np.packbits(pixels.ravel().astype(bool), bitorder="little") if bits == 1 else pixels.astype("<u2")
    made.PixelData = packed.tobytes() + bytes(packed.nbytes % 2)
    made.save_as(path, enforce_file_format=True)


def test_frames_of_an_enhanced_file_lie_where_each_says_and_time_points_are_asked_for(tmp_path):
    a = volume().astype(np.uint16)
    down = [(a[k], (0, 0, 3.0 * k), {}) for k in range(9)][::-1]
    multiframe(down, tmp_path / "one.dcm")
    np.testing.assert_array_equal(read_image(tmp_path / "one.dcm").values, a.transpose(2, 1, 0))
    two = [
        (a[k] + t, (0, 0, 3.0 * k), {"FrameContentSequence": item(TemporalPositionIndex=t + 1)})
        for k in range(9)
        for t in range(2)
    ]
    multiframe(two, tmp_path / "two.dcm")
    with pytest.raises(ValueError, match="TemporalPositionIndex=1"):
        read_image(tmp_path / "two.dcm")
    np.testing.assert_array_equal(read_image(f"{tmp_path / 'two.dcm'}?frame=2").values, (a + 1).transpose(2, 1, 0))


def test_segments_have_their_numbers_and_slices_without_any_are_background(tmp_path):
    masks = RNG(4).integers(0, 3, (7, 24, 20))
    masks[3] = 0
    number = {1: 2, 2: 7}
    frames = [
        (masks[k] == s, (0, 0, 3.0 * k), {"SegmentIdentificationSequence": item(ReferencedSegmentNumber=number[s])})
        for s in (1, 2)
        for k in range(7)
        if k != 3
    ]
    multiframe(frames, tmp_path / "seg.dcm", bits=1, SOPClassUID=SEG, SegmentationType="BINARY")
    labels = read_labels(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(labels.values, np.choose(masks, [0, 2, 7]).transpose(2, 1, 0))
    assert labels.grid.spacing == (0.7, 0.8, 3.0)
    only = read_labels(f"{tmp_path / 'seg.dcm'}?frame=7")
    np.testing.assert_array_equal(only.values, np.where(masks == 2, 7, 0).transpose(2, 1, 0))
    both = [(np.ones((24, 20)), (0, 0, 0), frame[2]) for frame in (frames[0], frames[-1])]
    multiframe(both, tmp_path / "over.dcm", bits=1, SOPClassUID=SEG, SegmentationType="BINARY")
    with pytest.raises(ValueError, match="overlap"):
        read_labels(tmp_path / "over.dcm")


def test_a_mosaic_is_refused_with_the_remedy(tmp_path):
    write(tmp_path, [(volume()[0], (0, 0, 0), {"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]})])
    with pytest.raises(ValueError, match=r"mosaic.*dcm2niix"):
        read_image(tmp_path)


def test_files_in_the_folder_that_are_no_pictures_are_passed_by_and_damaged_slices_are_not(tmp_path):
    write(tmp_path, [(volume()[k], (0, 0, 3.0 * k)) for k in range(9)])
    (tmp_path / "notes.txt").write_text("x" * 500, encoding="utf-8")
    assert read_image(tmp_path).grid.shape == (20, 24, 9)
    whole = (tmp_path / "004.dcm").read_bytes()
    (tmp_path / "004.dcm").write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"004\.dcm.*cut"):
        read_image(tmp_path)


_OTHER = (".txt", ".json", ".dump", ".gz", ".icc")
PICTURES = sorted(
    path.relative_to(FILES)
    for path in FILES.rglob("*")
    if path.is_file() and path.suffix not in _OTHER and "TINY_ALPHA" not in str(path)
)


def outcome(path):
    """The image, or why it was refused."""
    try:
        return read_image(path), ""
    except ValueError as error:
        return None, str(error)


@pytest.mark.parametrize("name", PICTURES, ids=str)
def test_every_file_of_pydicom_is_read_right_or_refused_in_one_line(name):
    path = FILES / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image, said = outcome(path)
        if image is None:
            assert "\n" not in said
            assert str(path) in said
            return
        told = pydicom.dcmread(path)
        if told.get("Rows") is None:
            pytest.fail("read without a picture")
        try:
            stored = told.pixel_array
        except (AttributeError, RuntimeError, ValueError):
            # pydicom needs a plugin for this compression
            stored = None
    if told.file_meta.MediaStorageSOPClassUID == SEG or told.PhotometricInterpretation == "PALETTE COLOR" or stored is None:
        expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0]
        expected = expected // 255 if told.file_meta.MediaStorageSOPClassUID == SEG else expected
    else:
        if told.PhotometricInterpretation == "MONOCHROME1":
            stored = 2**told.BitsStored - 1 - stored.astype(int)
        expected = stored * float(told.get("RescaleSlope", 1)) + float(told.get("RescaleIntercept", 0))
    if image.ndim == 3:
        expected = expected.transpose(2, 1, 0)
    else:
        expected = np.squeeze(expected).swapaxes(0, 1)
    np.testing.assert_allclose(image.values, expected, rtol=1e-12)


def test_threads_read_the_same(tmp_path):
    write(tmp_path, [(volume()[k], (0, 0, 3.0 * k)) for k in range(9)])
    first, found = read_image(tmp_path).values, []
    threads = [
        threading.Thread(target=lambda: found.append(np.array_equal(read_image(tmp_path).values, first))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8


@pytest.mark.parametrize("missing", ["ImageOrientationPatient", "PixelSpacing"])
def test_a_place_that_tags_leave_open_is_told(missing, tmp_path):
    write(tmp_path, [(volume()[k], (0, 0, 3.0 * k)) for k in range(9)])
    for path in tmp_path.iterdir():
        slice_ = pydicom.dcmread(path)
        del slice_[missing]
        slice_.save_as(path)
    with pytest.warns(FileWarning, match=f"no {missing} in its tags"):
        read_image(tmp_path)


def test_slices_of_two_frames_of_reference_are_told(tmp_path):
    slices = [(volume()[k], (0, 0, 3.0 * k), {"FrameOfReferenceUID": f"1.2.{k // 5}"}) for k in range(9)]
    with pytest.warns(FileWarning, match="2 frames of reference"):
        read_image(write(tmp_path, slices))

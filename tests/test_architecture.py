"""Imports go downward only, and each heavy package has one home."""

import ast
import functools
import graphlib
import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import augreg

ROOT = Path(__file__).resolve().parents[1]

# from the ground up; modules of one layer do not import each other
LAYERS = [
    {"missing"},
    {"_torch", "notebook", "progress", "threads"},
    {"geometry", "tasks"},
    {"io", "ras", "tensors"},
    {"metrics", "keypoints", "registration"},
    {"dense", "sam"},
    {"atlas", "lp", "matching", "networks", "synthesis"},
    {"bridges", "cohort", "series", "shards"},
    {"streams"},
    {"training"},
    {"agents", "recipes"},
    {"datasets", "report"},
    {"demo"},
    # names of all that is below, imported at first use
    {"__init__"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
HOMES = {
    "SimpleITK": ("augreg/io/",),
    "nibabel": ("augreg/io/",),
    "PIL": ("augreg/io/", "augreg/notebook.py"),
    "pydicom": ("augreg/io/",),
    "tifffile": ("augreg/io/",),
    "openslide": ("augreg/io/",),
    "imagecodecs": ("augreg/io/",),
    "nitransforms": ("augreg/io/neuro.py",),
    "trimesh": ("augreg/io/meshes.py",),
    "vtkmodules": ("augreg/io/meshes.py",),
    "torch": (
        "augreg/_torch.py",
        "augreg/agents/",
        "augreg/tensors.py",
        "augreg/bridges/",
        "augreg/networks/",
        "augreg/training/",
        "augreg/synthesis/",
        "augreg/shards/",
        "augreg/streams/",
    ),
    "onnxruntime": ("augreg/networks/export.py",),
    "safetensors": ("augreg/networks/",),
    "matplotlib": ("augreg/report/",),
    "highspy": ("solvers/highs.py",),
    "sklearn": ("augreg/keypoints/superpixels", "augreg/sam/density"),
    "rich": ("augreg/progress.py",),
    "distributed": ("augreg/tasks/cluster.py",),
    "monai": ("augreg/bridges/monai.py", "augreg/streams/monai.py"),
    "torchio": ("augreg/bridges/torchio.py", "augreg/streams/torchio.py"),
    "skimage": ("augreg/keypoints/superpixels", "augreg/sam/contours"),
    "numba": ("solvers/_compile.py",),
    "solvers": ("augreg/lp/", "solvers/"),
}


def _imports(path: Path) -> set[str]:
    """Absolute dotted names imported anywhere in a file, `from a import b` as a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


SOURCES = sorted([*ROOT.glob("augreg/**/*.py"), *ROOT.glob("solvers/**/*.py")])


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_downward_and_heavy_packages_stay_home(path):
    relative = path.relative_to(ROOT).as_posix()
    own = relative.split("/")[1].removesuffix(".py") if relative.startswith("augreg/") else None
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] == "augreg":
            assert own is not None, f"{relative} imports {name}: solvers knows nothing of augreg"
            part = parts[1] if len(parts) > 1 else "__init__"
            if part in RANK and part != own:
                assert RANK[part] < RANK[own], f"{relative} imports {name}, which is not below it"
        kernels = path.name.endswith("_kernels.py") or path.parent.name == "kernels"
        offered = name == "solvers.compiling.listening" or (kernels and name.startswith("solvers._compile."))
        for package, homes in HOMES.items():
            if parts[0] == package and not offered:
                assert relative.startswith(homes), f"{relative} imports {package}, whose home is {homes}"


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _arrows(whole: Callable[[str], str]) -> dict[str, set[str]]:
    """What imports what, of modules or of the folders that `whole` takes them to."""
    modules = {_module(path) for path in SOURCES}
    arrows: dict[str, set[str]] = {}
    for path in SOURCES:
        own = whole(_module(path))
        for name in _imports(path):
            target = next((part for part in (name, name.rpartition(".")[0]) if part in modules), None)
            if target is not None and whole(target) != own and not own.endswith("__main__"):
                arrows.setdefault(own, set()).add(whole(target))
    return arrows


@pytest.mark.parametrize("whole", [str, lambda module: ".".join(module.split(".")[:2])], ids=["modules", "packages"])
def test_no_imports_run_in_a_circle(whole):
    try:
        graphlib.TopologicalSorter(_arrows(whole)).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("package", "strangers"),
    [
        ("networks", {"synthesis", "sam", "training", "shards", "streams", "lp", "keypoints"}),
        ("lp", {"networks", "synthesis", "training", "sam"}),
        ("dense", {"lp", "networks", "synthesis", "training", "sam"}),
        ("agents", {"lp", "dense", "sam", "shards", "streams", "keypoints", "matching", "atlas"}),
        ("atlas", {"lp", "dense", "networks", "synthesis", "training", "matching"}),
        ("matching", {"lp", "dense", "networks", "synthesis", "training"}),
        ("sam", {"lp", "networks", "synthesis"}),
        ("registration", {"lp", "networks", "sam"}),
    ],
)
def test_packages_that_know_nothing_of_each_other(package, strangers):
    found = {
        name.split(".")[1] for path in (ROOT / "augreg" / package).rglob("*.py") for name in _imports(path) if "augreg." in name
    }
    assert not found & strangers


def _files_with(*texts: str) -> list[str]:
    sources = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in SOURCES}
    return [name for name, source in sources.items() if any(text in source for text in texts)]


def test_what_is_easily_turned_around_stands_in_one_place():
    # reversed axes and coordinates from -1 to 1: of maps, and of splines while pairs are rendered
    folders = [Path(name).parent.as_posix() for name in _files_with("grid_sample(")]
    assert folders == ["augreg/networks", "augreg/synthesis/render"]
    # voxels of tensors and millimetres of arrays
    turned = _files_with("index_to_world.T", "world_to_index.T")
    folders = ("networks", "training", "shards", "streams")
    assert not [name for name in turned if name.startswith(tuple(f"augreg/{folder}/" for folder in folders))]


def test_every_module_has_a_layer():
    present = {p.stem if p.is_file() else p.name for p in (ROOT / "augreg").iterdir() if p.suffix == ".py" or p.is_dir()}
    assert present - {"data", "__pycache__"} <= set(RANK)


@pytest.mark.parametrize("name", ["monai", "torchio"])
def test_what_moved_is_found_under_its_old_name(name):
    old, new = (importlib.import_module(f"augreg.{package}.{name}") for package in ("synthesis", "streams"))
    assert old is new
    assert augreg.synthesis.ShardStream is augreg.streams.ShardStream
    assert augreg.synthesis.write_shards is augreg.shards.write_shards
    assert augreg.training.FlowRegistration is augreg.networks.FlowRegistration


def _modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True).stdout.split())


def test_import_augreg_brings_no_heavy_package():
    loaded = _modules_after("import augreg")
    assert not loaded & {"torch", "matplotlib", "numba", "scipy", "SimpleITK", "numpy"}


PARTS = ("agents", "datasets", "dense", "io", "lp", "metrics", "networks", "sam", "synthesis", "training")


@pytest.mark.parametrize("name", PARTS)
def test_the_parts_of_augreg_are_its_attributes(name):
    loaded = _modules_after(f"import augreg, types; assert isinstance(augreg.{name}, types.ModuleType)")
    assert f"augreg.{name}" in loaded
    # and the rest of it is left alone: matplotlib is loaded where pages are drawn, torch where networks are
    assert "matplotlib" not in loaded
    assert ("torch" in loaded) == (name in ("agents", "networks", "synthesis", "training"))
    assert name in _listed()


@functools.cache
def _listed():
    code = "import augreg, sys; before = set(sys.modules); print(*dir(augreg)); assert set(sys.modules) == before"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout.split()


def test_the_linear_program_needs_neither_torch_nor_matplotlib():
    loaded = _modules_after("from augreg import LPRegistration, read_image")
    assert not loaded & {"torch", "matplotlib"}


def test_commands_load_matplotlib_only_for_pages(tmp_path):
    hearts = ROOT / "augreg" / "data" / "hearts"
    names = [str(hearts / f"SC-HF-I-0{number}_ed.png") for number in (1, 2, 4)]
    maps = [name.replace("_ed", "_ed_lv") for name in names]
    fit = ["sam", "fit", *names, "--labels", *maps, "--levels", "1", "-o", str(tmp_path / "m.npz")]
    warp = ["warp", names[0], "-t", str(tmp_path / "t.tfm"), "-r", names[1], "-o", str(tmp_path / "moved.png")]
    register = ["register", *names[:2], "--transform", "affine", "-o", str(tmp_path / "t.tfm")]
    loaded = _modules_after(f"from augreg import cli\nassert not any(map(cli.main, {[register, warp, fit]!r}))")
    assert "augreg.sam" in loaded
    assert "SimpleITK" in loaded
    assert not loaded & {"torch", "matplotlib"}
    page = ["sam", "show", str(tmp_path / "m.npz"), "-o", str(tmp_path / "page.html")]
    assert "matplotlib" in _modules_after(f"from augreg import cli\nassert cli.main({page!r}) == 0")


def in_the_locale(call):
    """Whether a call reads or writes text without a word on its encoding."""
    keywords = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
    values = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if "encoding" in keywords or "utf-8" in values:
        return False
    if name in ("read_text", "write_text") or keywords.get("text") is True:
        return True
    opens = isinstance(call.func, ast.Name) and name == "open"
    return opens and not any("b" in str(value) for value in (*values[-1:], keywords.get("mode")))


def test_text_is_read_and_written_in_utf_8_whatever_the_locale():
    # llvmlite sets the locale of the process to C while it prints a module
    texts = [file for folder in ("augreg", "benchmarks", "tests") for file in (ROOT / folder).rglob("*.py")]
    calls = [
        (file, call)
        for file in sorted(texts)
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
    ]
    assert [f"{file.name}:{call.lineno}" for file, call in calls if in_the_locale(call)] == []

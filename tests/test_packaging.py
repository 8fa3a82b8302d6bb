"""What is handed out is whole: the source distribution is the repository, the wheel carries its data, and one version is told."""

import email.parser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import augreg

ROOT = Path(__file__).resolve().parents[1]
BUILD = "import sys, setuptools.build_meta as build; getattr(build, f'build_{sys.argv[1]}')(sys.argv[2])"
# what tools leave in a folder, and what an unpacked source distribution has beside the repository's files
LEFT = re.compile(r"(^|/)(\.?venv.*|\.git|__pycache__|build|dist|runs|\.\w+_cache|\.hypothesis|[\w.-]+\.egg-info)(/|$)")
OWN = {"PKG-INFO", "setup.cfg"}


def repository() -> set[str]:
    """The names of its files: what git knows, or without git, what is there."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        # new files too, before they are known: else a test says so only after they have been
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout.splitlines()
        return {name for name in listed if (ROOT / name).exists()}
    names = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file()}
    return {name for name in names if not LEFT.search(name) and not name.endswith((".pyc", ".nbi", ".nbc"))} - OWN


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The source distribution and the wheel of a copy of the repository."""
    setuptools = pytest.importorskip("setuptools", reason="setuptools, which builds distributions, is not installed")
    if int(setuptools.__version__.split(".")[0]) < 77:
        pytest.skip(f"setuptools 77 or later builds distributions, {setuptools.__version__} is installed")
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("out")
    for name in repository():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    for kind in ("sdist", "wheel"):
        command = [sys.executable, "-W", "ignore", "-c", BUILD, kind, str(out)]
        done = subprocess.run(command, cwd=copy, capture_output=True, encoding="utf-8", env={**os.environ, "PYTHONPATH": ""})
        assert done.returncode == 0, done.stderr[-2000:]
    return next(out.glob("*.tar.gz")), next(out.glob("*.whl"))


def test_the_source_distribution_is_the_repository(built):
    with tarfile.open(built[0]) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    names = {name for name in names if ".egg-info/" not in name} - OWN
    assert sorted(repository() - names) == []
    assert sorted(names - repository()) == []


@pytest.mark.slow
def test_an_unpacked_source_distribution_finds_all_its_tests(built, tmp_path):
    with tarfile.open(built[0]) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    # the package that is tested is the one beside the tests
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", env=environment)
    assert done.returncode == 0, done.stdout[-3000:]
    modules = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    assert modules == {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}


def test_the_wheel_carries_the_package_and_its_data_alone(built):
    with zipfile.ZipFile(built[1]) as archive:
        names = set(archive.namelist())
    ours = {name for name in repository() if name.startswith(("augreg/", "solvers/"))}
    rest = {name for name in names if ".dist-info/" not in name}
    assert sorted(ours - rest) == []
    assert sorted(rest - ours) == []


def test_there_is_one_version(built):
    with zipfile.ZipFile(built[1]) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.parser.Parser().parsestr(archive.read(name).decode())
    assert metadata["Version"] == augreg.__version__
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", citation, flags=re.MULTILINE) == [augreg.__version__]
    assert "version" not in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # what a package index shows beside it
    assert all(url.partition(", ")[2].startswith("https://") for url in metadata.get_all("Project-URL"))


def test_what_a_package_index_shows_has_no_dead_links():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]*)\)", text) + re.findall(r"(?:src|href)=\"([^\"]*)\"", text)
    # the picture is there in the repository and the source distribution; the address of the project is not known yet
    assert [link for link in links if not link.startswith(("https://", "#"))] == ["docs/pictures/augreg.png"]
    assert (ROOT / "docs" / "pictures" / "augreg.png").is_file()
    # paths that it names instead are there
    paths = re.findall(r"`([\w/.-]+/[\w.-]+\.(?:md|py))`", text)
    assert len(paths) >= 5
    assert [path for path in paths if not (ROOT / path).is_file()] == []


def test_no_dependency_is_without_a_use():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    imported = {"scikit-image": "skimage", "scikit-learn": "sklearn", "pillow": "PIL"}
    sources = "\n".join(
        path.read_text(encoding="utf-8") for part in ("augreg", "solvers") for path in (ROOT / part).rglob("*.py")
    )
    for dependency in project["dependencies"]:
        name = re.match(r"[\w-]+", dependency)[0]
        module = imported.get(name, name.replace("-", "_"))
        assert re.search(rf"^\s*(import|from) {module}\b", sources, flags=re.MULTILINE), name


def test_the_recipe_of_conda_asks_for_what_the_package_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    recipe = (ROOT / "recipe" / "meta.yaml").read_text(encoding="utf-8").partition("  run:\n")[2].partition("\ntest:")[0]
    there = dict(re.findall(r"^    - ([\w.-]+) (>=\S+)$", recipe, flags=re.MULTILINE))
    # names that conda has for them
    other = {"lazy-loader": "lazy_loader", "matplotlib": "matplotlib-base", "torch": "pytorch", "SimpleITK": "simpleitk"}
    ours = dict(re.fullmatch(r"([\w.-]+)(>=\S+)", wanted).groups() for wanted in project["dependencies"])
    assert there == {"python": project["requires-python"], **{other.get(name, name): bound for name, bound in ours.items()}}
    entry = re.findall(r"^    - (\w+) = (\S+)$", (ROOT / "recipe" / "meta.yaml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert dict(entry) == project["scripts"]
    version = (ROOT / "recipe" / "meta.yaml").read_text(encoding="utf-8").partition('set version = "')[2].partition('"')[0]
    assert version == augreg.__version__


def test_the_dockerfile_copies_what_the_package_is_built_of():
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert {"pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "augreg", "solvers"} <= set(copied)


def test_the_plugin_of_napari_carries_its_manifest():
    folder = ROOT / "extras" / "napari-augreg"
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    [(_, place)] = project["project"]["entry-points"]["napari.manifest"].items()
    package, _, name = place.partition(":")
    assert (folder / package / name).is_file()
    assert project["tool"]["setuptools"] == {"packages": [package], "package-data": {package: [name]}}
    assert project["project"]["version"] == augreg.__version__

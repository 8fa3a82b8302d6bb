"""The site: `python -m sphinx -W -b html docs docs/_build`."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

import augreg

project = "augreg"
author = copyright = "The augreg developers"
version = release = augreg.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "plain_docstrings",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "tutorials"]
suppress_warnings = ["config.cache"]  # functions of the gallery's configuration cannot be pickled
default_role = "code"  # as in docstrings
html_theme = "furo"
html_title = f"augreg {version}"
html_static_path = ["pictures"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
# who builds with the extra `docs` alone sees these pages without a traceback
autodoc_mock_imports = [name for name in ("monai", "torchio") if importlib.util.find_spec(name) is None]
napoleon_google_docstring = False
napoleon_use_rtype = False
sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "learn",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "remove_config_comments": True,
    "min_reported_time": 1e9,
}


def _commands(app):
    """The help of every command, as it is shown in a terminal."""
    from augreg.cli.parser import build_parser

    plain = {**os.environ, "COLUMNS": "110", "NO_COLOR": "1", "TERM": "dumb"}
    parser = build_parser()
    (choices,) = [action.choices for action in parser._actions if hasattr(action, "choices") and isinstance(action.choices, dict)]
    parts = ["# Commands", "", "What `augreg COMMAND --help` prints.", ""]
    for name in choices:
        run = [sys.executable, "-m", "augreg", name, "--help"]
        text = subprocess.run(run, check=True, stdout=subprocess.PIPE, encoding="utf-8", env=plain).stdout
        parts += [f"## {name}", "", "```text", text.rstrip(), "```", ""]
    target = HERE / "reference" / "commands.md"
    text = "\n".join(parts)
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")


def setup(app):
    """Pages that are made."""
    app.connect("builder-inited", _commands, priority=100)

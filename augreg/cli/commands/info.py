"""`augreg info`: what a report of a fault should say of the machine and the installation."""

from __future__ import annotations

import argparse
import importlib.metadata as packages
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

import augreg as ar
from augreg.cli.options import Commands, command_of, json_option
from augreg.cli.output import report


def add(commands: Commands) -> None:
    """The parser."""
    parser = command_of(
        commands,
        "info",
        run,
        "versions, threads, devices, and where compiled kernels are kept: for reports of faults",
        "augreg info --json",
    )
    json_option(parser)


def run(options: argparse.Namespace) -> None:
    """`augreg info`."""
    needed, extra = _versions()
    found = {
        "augreg": ar.__version__,
        "installed": str(Path(ar.__file__).parent),
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": ar.get_threads(),
        "memory_gib": _memory(),
        "devices": _devices(),
        "kernels": _kernels(),
        "packages": needed,
        "extras": extra,
    }
    report(found, "\n".join(_lines(found)), as_json=options.json)


def _devices() -> list[str] | None:
    """Where networks can be; None without torch: an installation that lacks it is what people report, too."""
    try:
        from augreg.training.machine import devices
    except ModuleNotFoundError:
        return None
    return list(devices())


def _lines(found: dict[str, Any]) -> list[str]:
    width = max(map(len, found))
    lines = []
    for name, value in found.items():
        if isinstance(value, dict):
            value = ", ".join(f"{part} {'missing' if told is None else told}" for part, told in value.items())
        elif isinstance(value, list):
            value = ", ".join(value)
        lines.append(f"{name.replace('_', ' '):{width}}  {'unknown' if value is None else value}")
    return lines


def _versions() -> tuple[dict[str, str | None], dict[str, str | None]]:
    """What is installed of the packages that augreg needs, and of those of its extras; None for what is missing."""
    needed, extra = set[str](), set[str]()
    for text in packages.requires("augreg") or ():
        name = re.split(r"[^\w.-]", text, maxsplit=1)[0]
        (extra if "extra ==" in text else needed).add(name)
    groups = (needed, {name for name in extra - needed if name != "augreg"})
    first, second = ({name: _version(name) for name in sorted(group, key=str.lower)} for group in groups)
    return first, {name: version for name, version in second.items() if version is not None}


def _version(name: str) -> str | None:
    try:
        return packages.version(name)
    except packages.PackageNotFoundError:
        return None


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):  # no such question on this system
        return None


def _kernels() -> dict[str, Any]:
    """The folder of compiled kernels, how many files it has, and whether it can be written."""
    from augreg.geometry.kernels.points import affine_at

    cache = getattr(affine_at, "_cache", None)
    folder = getattr(cache, "cache_path", None)
    if folder is None:  # the compiler is off
        return {"folder": None, "files": 0, "writable": False}
    path = Path(folder)
    there = next(part for part in (path, *path.parents) if part.exists())
    return {"folder": folder, "files": len([*path.glob("*.nb[ci]")]), "writable": os.access(there, os.W_OK)}

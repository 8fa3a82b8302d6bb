"""Checkpoints: the named state of a learner and the number of steps behind it, in one `.safetensors` file, written atomically.

    network.encoder.steps.0.0.weight                   a tensor of the module `network`
    adam.network.encoder.steps.0.0.weight.exp_avg      what the optimiser `adam` keeps for this parameter

and as JSON, in the metadata, the kind of learner, its description, and the number of steps. Of a run with patience the best state
(`augreg.training.best`) is in the same file, below names that begin with `best:`, so that both are of one moment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from augreg.networks.files import read_tensors, write_tensors
from augreg.training.learner import Learner

CHECKPOINT = "checkpoint.safetensors"
_KIND = "augreg checkpoint"
_BEST = "best:"
_NOTHING: Mapping[str, torch.Tensor] = {}
# names, shapes or kinds that a message shows
_SHOWN = 3


def save(learner: Learner, step: int, path: Path, best: Mapping[str, torch.Tensor] = _NOTHING, **numbers: float) -> None:
    """Write a checkpoint with `step` steps behind it, a state that is kept beside it, and what else the run has to know."""
    about = {"learner": type(learner).__name__, "description": dict(learner.description), "step": step, **numbers}
    kept = {f"{_BEST}{name}": tensor for name, tensor in best.items()}
    write_tensors({**named_state(learner), **kept}, about, path, _KIND)


def load(learner: Learner, path: Path) -> tuple[int, dict[str, torch.Tensor], dict[str, Any]]:
    """Put a checkpoint into a learner; the number of steps it has behind it, the state that is kept beside it, and all numbers.

    Raises
    ------
    FileNotFoundError : without one. ValueError : for one of another learner, which then is as before, or of an older augreg.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint to go on from, got none; train without resuming")
    tensors, about = read_tensors(path, _KIND)
    if "learner" not in about:
        raise ValueError(f"{path}: expected a checkpoint with named states, got one of an older augreg; begin another run")
    ours = {"learner": type(learner).__name__, **json.loads(json.dumps(dict(learner.description)))}
    theirs = {"learner": about["learner"], **about["description"]}
    if other := [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]:
        wanted, got = (", ".join(f"{name} {of.get(name)}" for name in other) for of in (ours, theirs))
        raise ValueError(f"{path}: expected a checkpoint of this learner, {wanted}, got one with {got}")
    try:
        restore(learner, {name: tensor for name, tensor in tensors.items() if not name.startswith(_BEST)})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    best = {name.removeprefix(_BEST): tensor for name, tensor in tensors.items() if name.startswith(_BEST)}
    return int(about["step"]), best, about


def named_state(learner: Learner) -> dict[str, torch.Tensor]:
    """All that a learner remembers, by name: its own tensors, which change with it.

    Raises
    ------
    ValueError : where two parts have one name, or an optimiser has parameters of no module. TypeError : for state that is not a
        tensor.
    """
    tensors = _of_modules(learner)
    for begin, optimiser in learner.optimisers.items():
        for name, parameter in _parameters(learner, begin).items():
            state = optimiser.state.get(parameter, {})
            tensors |= {f"{begin}.{name}.{kind}": value for kind, value in state.items() if value is not None}
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}; keep it as a buffer of a module")
    return tensors


def spoilt(learner: Learner) -> list[str]:
    """Names of what a learner remembers that is not finite: no file is read that holds such tensors."""
    state = named_state(learner).items()
    return [name for name, tensor in state if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())]


def restore(learner: Learner, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give a learner the state that `named_state` has told.

    Raises
    ------
    ValueError : for other names, shapes or kinds of numbers than this learner's; it then is as before.
    """
    modules: dict[str, dict[str, torch.Tensor]] = {name: {} for name in learner.modules}
    rest: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        begin, _, part = name.partition(".")
        if begin in modules:
            modules[begin][part] = tensor
        else:
            parameter, _, kind = name.rpartition(".")
            rest.setdefault(parameter, {})[kind] = tensor
    _check_modules(_of_modules(learner), {f"{name}.{part}": t for name, held in modules.items() for part, t in held.items()})
    states = {}
    for name in learner.optimisers:
        parameters = _parameters(learner, name)
        found = [rest.pop(f"{name}.{parameter}", {}) for parameter in parameters]
        _check_optimiser({f"{name}.{parameter}": p for parameter, p in parameters.items()}, found)
        states[name] = {number: state for number, state in enumerate(found) if state}
    if rest:
        raise ValueError(f"expected the parts of this learner alone, got also {', '.join(list(rest)[:_SHOWN])}")
    for name, module in learner.modules.items():
        module.load_state_dict(modules[name])
    for name, optimiser in learner.optimisers.items():
        optimiser.load_state_dict({"state": states[name], "param_groups": optimiser.state_dict()["param_groups"]})


def _of_modules(learner: Learner) -> dict[str, torch.Tensor]:
    names = [*learner.modules, *learner.optimisers]
    if len(set(names)) < len(names) or any("." in name for name in names):
        raise ValueError(f"modules, optimisers: expected names of their own, without dots, got {', '.join(names)}")
    return {f"{name}.{part}": t for name, module in learner.modules.items() for part, t in module.state_dict().items()}


def _parameters(learner: Learner, optimiser: str) -> dict[str, torch.Tensor]:
    """The parameters of an optimiser by name, in its own order, which is how torch numbers them."""
    names = {p: f"{name}.{part}" for name, module in learner.modules.items() for part, p in module.named_parameters()}
    parameters = [p for group in learner.optimisers[optimiser].param_groups for p in group["params"]]
    if strangers := [tuple(p.shape) for p in parameters if p not in names]:
        raise ValueError(f"{optimiser}: expected parameters of the learner's modules, got one of shape {strangers[0]} of none")
    return {names[p]: p for p in parameters}


def _check_modules(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> None:
    wanted, got = ({name: f"{t.dtype} {tuple(t.shape)}" for name, t in tensors.items()} for tensors in (ours, theirs))
    if other := [name for name in {**wanted, **got} if wanted.get(name) != got.get(name)]:
        told = [f"{name} {wanted.get(name, 'absent')}, got {got.get(name, 'none')}" for name in other[:_SHOWN]]
        raise ValueError(f"expected {'; '.join(told)} ({len(other)} tensors differ)")


def _check_optimiser(parameters: Mapping[str, torch.Tensor], states: list[dict[str, torch.Tensor]]) -> None:
    """An optimiser keeps the same kinds for all parameters that it has moved: scalars, or of a parameter's shape."""
    most = max((set(state) for state in states), key=len, default=set())
    for (name, parameter), state in zip(parameters.items(), states, strict=True):
        if state and set(state) != most:
            raise ValueError(f"expected {name} with {', '.join(sorted(most))}, got {', '.join(sorted(state))}")
        if other := [kind for kind, t in state.items() if t.ndim and t.shape != parameter.shape]:
            shapes = f"{tuple(parameter.shape)}, got {tuple(state[other[0]].shape)}"
            raise ValueError(f"expected {name}.{other[0]} of shape {shapes}")

"""PyTorch, or one line that it is not there: imported before it by whatever cannot do without."""

from augreg.missing import missing

try:
    import torch as torch
except ModuleNotFoundError as error:
    raise missing("networks, agents, training and their pairs", error) from error

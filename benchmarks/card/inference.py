"""How long networks take on the card: images there in, displacements on all pixels there out.

    eager          as it is called
    graph          one CUDA graph, replayed
    compiled       by torch.compile

`float32` is without TF32, `bfloat16` has convolutions and features in it, channels last, heads and flows in float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from augreg.networks import FlowNet, FlowNetS
from benchmarks.card.checks import tf32
from benchmarks.card.parts import OutOfTime, described, hard_stop, median_ms, peak_memory, release, tried
from benchmarks.card.sizes import Sizes

_PRECISIONS = ("float32", "tf32", "bfloat16")
# of what is left of the part, for one compilation
_COMPILING = 60.0


def time_networks(sizes: Sizes, device: str, rows: list[dict[str, Any]], end: float) -> None:
    """A row per network, shape, batch, precision and way of calling."""
    for shape, batches in ((sizes.flat, (1, sizes.many)), (sizes.solid, (1,))):
        # the search for the best algorithm of every layer would take most of the time in 3-D
        torch.backends.cudnn.benchmark = len(shape) == 2
        for width in sizes.widths:
            for precision in _PRECISIONS:
                for batch in batches:
                    about = {"network": "FlowNetS", "width": width, "shape": shape, "batch": batch, "precision": precision}
                    for how in ("eager", "graph") if device != "cpu" else ("eager",):
                        tried(rows, {**about, "how": how}, lambda: _timed(about, how, sizes, device))  # noqa: B023
                    release()
    torch.backends.cudnn.benchmark = True
    for width in sizes.widths:
        about = {"network": "FlowNetS", "width": width, "shape": sizes.flat, "batch": 1, "precision": "bfloat16"}
        left = min(_COMPILING, end - time.monotonic() - 5)
        if device != "cpu" and left > 15:
            try:
                with hard_stop(left):
                    tried(rows, {**about, "how": "compiled"}, lambda: _timed(about, "compiled", sizes, device))  # noqa: B023
            except OutOfTime as error:
                rows.append({**about, "how": "compiled", "error": described(error)})


def _timed(about: dict[str, Any], how: str, sizes: Sizes, device: str) -> dict[str, Any]:
    shape, precision = about["shape"], about["precision"]
    network, dtype = _network(len(shape), about["width"], precision, device)
    images = [torch.randn(about["batch"], 1, *shape, device=device, dtype=dtype) for _ in range(2)]
    begin = time.perf_counter()
    with torch.inference_mode(how != "compiled"), torch.no_grad(), tf32(precision == "tf32"):
        call = _called(network, images, how)
        call()
        ready = time.perf_counter() - begin
        row = {**median_ms(call, device, sizes.repeats), "ready_seconds": ready, "memory_gb": peak_memory(device)}
    return row | {"per_pair_ms": row["median_ms"] / about["batch"]}


def _network(ndim: int, width: float, precision: str, device: str) -> tuple[FlowNet, torch.dtype]:
    network = FlowNetS(ndim, 1, width).to(device).eval()
    if precision != "bfloat16":
        return network, torch.float32
    network.to(torch.bfloat16)
    for kept in (network.decoder.heads, network.decoder.up_flows):
        kept.float()
    layout = torch.channels_last if ndim == 2 else torch.channels_last_3d
    return network.to(memory_format=layout), torch.bfloat16  # type: ignore[call-overload]


def _called(network: FlowNet, images: list[torch.Tensor], how: str) -> Callable[[], object]:
    if how == "eager":
        return lambda: network.predict(*images).flow()
    if how == "compiled":
        compiled = torch.compile(lambda *pair: network.predict(*pair).flow())
        return lambda: compiled(*images)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            network.predict(*images).flow()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        network.predict(*images).flow()
    return graph.replay

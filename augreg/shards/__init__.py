"""Pairs on disk: shards of a data set, written by processes or a cluster, resumed, read again."""

from augreg import _torch  # noqa: F401  # before whatever imports torch
from augreg.shards.folder import ShardState, read_shards, write_shards

__all__ = ["ShardState", "read_shards", "write_shards"]

"""Everything about a graphics card in one call of a few minutes; see `benchmarks.card.command`."""

"""What all benchmarks share: records of figures, pages that show them, time, processes."""

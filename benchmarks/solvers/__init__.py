"""Solvers of piecewise-linear programs beside each other."""

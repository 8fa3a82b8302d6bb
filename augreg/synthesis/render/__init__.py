"""Rendering: from drawn coefficients to images with their exact displacement, deterministically, on CPU and GPU."""

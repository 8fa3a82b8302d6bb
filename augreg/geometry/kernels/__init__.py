"""Arithmetic of interpolation, compiled; everything that interpolates uses it.

Rasters are (n0, n1, n2, C) and control points (n0, n1, n2, D) with n0 = 1 in 2-D, so that one kernel serves both dimensions; the
axes of a 2-D index are the last two of three. Functions marked `inlined` become a part of the kernels that call them; a kernel
works on the range [begin, end) of its outermost index (see `augreg.threads`).
"""

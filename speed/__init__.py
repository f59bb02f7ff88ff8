"""Measured ratios, printed by `make speed`: a file a subject, each with `measure() -> list[Row]`."""

import os

# Single-thread figures: set before any BLAS or OpenMP library starts.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

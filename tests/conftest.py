"""One BLAS and OpenMP thread, set before numpy or torch starts: results to the bit, and no fight for two cores."""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

"""Settings that every test shares."""

from __future__ import annotations

import os

# One BLAS thread per test process: two processes with two spinning threads each on two cores slow each other down.
# It must be set before NumPy is imported for the first time.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

from hypothesis import settings  # noqa: E402

settings.register_profile("chainrule", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("chainrule")

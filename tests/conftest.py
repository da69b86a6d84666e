"""Settings that every test shares."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

# One BLAS thread per test process: two processes with two spinning threads each on two cores slow each other down.
# It must be set before NumPy is imported for the first time.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

# Machine code that these tests compile is shared by their processes, and by nobody else.
if "CHAINRULE_CACHE" not in os.environ:
    os.environ["CHAINRULE_CACHE"] = tempfile.mkdtemp(prefix="chainrule-tests-")
    atexit.register(shutil.rmtree, os.environ["CHAINRULE_CACHE"], ignore_errors=True)

from hypothesis import settings  # noqa: E402

settings.register_profile("chainrule", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("chainrule")

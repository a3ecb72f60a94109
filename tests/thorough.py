"""Whether the suite is to try all that it could: ``ARTFS_THOROUGH=1 scripts/test tests/DIRECTORY``."""

from __future__ import annotations

import os

THOROUGH = bool(os.environ.get("ARTFS_THOROUGH"))

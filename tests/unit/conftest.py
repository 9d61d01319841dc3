"""What the unit tests share: the project's utils as plain modules, and Hypothesis without chance or clock."""

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "_utils"))

settings.register_profile(
    "ringfree",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ringfree")

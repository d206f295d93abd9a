"""The small deterministic network of Raft cores, for bugs that it can show."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "core" / "raft"))

"""`benchmarks` is run from the repository's root and is not installed."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3]))

"""Imported first by every script here: each runs the library of its own checkout, whatever is installed.

So a copy of the project, such as those in which ``dvc exp run --temp`` and ``--queue`` work, reads its own
conf/ and code, and not those of the folder that ``.venv`` was made in.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

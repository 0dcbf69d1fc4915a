"""The MLflow index: runs made from records, by one writer at a time.

Nothing that trains imports MLflow. ``index`` turns the records of a store into MLflow runs, ``runs`` says what is in
them, ``following`` does so while a sweep goes on, and ``serving`` shows them in a browser.

MLflow reads its settings from the environment, some of them when it is imported. A forgotten ``MLFLOW_RUN_ID`` or
``MLFLOW_TRACKING_URI`` would redirect the runs, so all of them are removed here, before any module of this package.
"""

import os
from pathlib import Path

for _name in [name for name in os.environ if name.startswith(("MLFLOW_", "_MLFLOW_"))]:
    del os.environ[_name]
os.environ |= {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
}
try:
    Path.home()
except RuntimeError:  # MLflow asks for it when it is imported, and does without it
    os.environ["HOME"] = "/nonexistent"

"""The MLflow index: runs made from records, by one writer at a time.

Nothing that trains imports MLflow. ``index`` turns the records of a store into MLflow runs, ``runs`` says what is in
them, ``following`` does so while a sweep goes on, ``serving`` shows them in a browser, and ``server`` copies them to a
server that others may look at.

MLflow reads its settings from the environment, some of them when it is imported. A forgotten ``MLFLOW_RUN_ID`` or
``MLFLOW_TRACKING_URI`` would redirect the runs, so all of them are removed here, before any module of this package, but
for those by which a server lets one in.
"""

import os
from pathlib import Path

LETTING_IN = {
    f"MLFLOW_TRACKING_{what}"
    for what in ("USERNAME", "PASSWORD", "TOKEN", "INSECURE_TLS", "SERVER_CERT_PATH", "CLIENT_CERT_PATH")
}
for _name in [name for name in os.environ if name.startswith(("MLFLOW_", "_MLFLOW_")) and name not in LETTING_IN]:
    del os.environ[_name]
os.environ |= {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    # What a server does not take at once is pushed the next time; MLflow would try for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
try:
    Path.home()
except RuntimeError:  # MLflow asks for it when it is imported, and does without it
    os.environ["HOME"] = "/nonexistent"

"""The MLflow index: runs made from records, by one writer at a time.

Nothing that trains imports MLflow. ``index`` turns the records of a store into MLflow runs, ``runs`` says what is in
them, ``following`` does so while a sweep goes on, ``serving`` shows them in a browser, and ``server`` copies them to a
server that others may look at.

MLflow reads its settings from the environment, some of them when it is imported. A forgotten ``MLFLOW_RUN_ID`` or
``MLFLOW_TRACKING_URI`` would redirect the runs, so all of them are removed here, before any module of this package, but
for those that say how a server, or its store of artifacts, is reached and lets one in.
"""

import os
import re
from pathlib import Path

LETTING_IN = re.compile(
    "MLFLOW_("
    "TRACKING_(USERNAME|PASSWORD|TOKEN|AUTH|AWS_SIGV4|INSECURE_TLS|SERVER_CERT_PATH|CLIENT_CERT_PATH)|WORKSPACE"
    "|S3_.*|EXPERIMENTAL_S3_SIGNATURE_VERSION|BOTO_CLIENT_ADDRESSING_STYLE"
    "|KERBEROS_.*|PYARROW_EXTRA_CONF"  # for HDFS; the clients of other stores have settings of their own
    ")"
)
for _name in [name for name in os.environ if name.startswith(("MLFLOW_", "_MLFLOW_"))]:
    if not LETTING_IN.fullmatch(_name):
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
os.environ.setdefault("AWS_MAX_ATTEMPTS", "1")  # boto would ask a store of artifacts three times, for a minute each
try:
    Path.home()
except RuntimeError:  # MLflow asks for it when it is imported, and does without it
    os.environ["HOME"] = "/nonexistent"

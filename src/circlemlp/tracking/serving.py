"""Showing the index: MLflow's own server, in this very process."""

import os
import signal
import socket
import uuid
from importlib import import_module

import uvicorn
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from circlemlp.errors import UserError
from circlemlp.tracking.index import Index


def listen(port: int) -> socket.socket:
    """Take a port of the loopback interface; 0 is any.

    Raises
    ------
    UserError
        Naming a port that is free, if this one cannot be had.
    """
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen()
    except OSError as error:
        listening.close()
        with listen(0) as free:
            other = free.getsockname()[1]
        raise UserError(
            f"tracking.port={port}: {error.strerror}; choose another: `make ui PORT={other}` or tracking.port={other}"
        ) from None
    return listening


def serve(index: Index, listening: socket.socket) -> None:
    """Serve MLflow's pages, and the reports that they lead to, until a signal ends this process.

    ``mlflow server`` starts a process that starts another, and neither notices when the other is killed. So its
    application runs in this one, with the settings that the command would pass on to it.
    """
    os.environ |= {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "_MLFLOW_SERVER_BOOT_ID": uuid.uuid4().hex,
        "_MLFLOW_SERVER_FILE_STORE": index.database.uri,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": index.artifacts,
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    }
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # uvicorn ends in order at SIGTERM, and knows no SIGHUP
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    application = import_module("mlflow.server.fastapi_app").app  # not before it can find the settings
    application.router.routes.insert(0, Mount("/reports", StaticFiles(directory="reports", check_dir=False)))
    config = uvicorn.Config(application, log_config=None, timeout_graceful_shutdown=2)
    _Server(config, index).run([listening])


class _Server(uvicorn.Server):
    """A server that says where the experiments are once it answers, which is some seconds after its start."""

    def __init__(self, config: uvicorn.Config, index: Index) -> None:
        super().__init__(config)
        self._index = index

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to answer."""
        await super().startup(sockets)
        assert sockets
        root = f"http://127.0.0.1:{sockets[0].getsockname()[1]}/"
        for title, place in (self._index.addresses() or {"no cells yet": "#/experiments"}).items():
            print(f"{root}{place}  {title}", flush=True)

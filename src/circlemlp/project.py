"""Where this checkout is, and what git says of it."""

import os
import subprocess
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
SRC, CONF = PROJECT / "src", PROJECT / "conf"


def git_state() -> dict[str, Any]:
    """Return the commit checked out and whether the tree differs from it; None where git cannot tell.

    Variables such as ``GIT_DIR``, which git sets for its hooks, would name another repository, so they are left out;
    and git must not refuse a checkout that belongs to another user.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ("git", "-c", f"safe.directory={PROJECT}", "--no-optional-locks", *arguments),
                cwd=PROJECT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=30,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("rev-parse", "--show-prefix") != "":  # the project is not the repository, but lies inside another's
        return {"commit": None, "dirty": None}
    status = git("status", "--porcelain")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}

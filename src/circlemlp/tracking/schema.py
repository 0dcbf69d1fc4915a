"""The schema of the index's database, which each version of MLflow may change.

MLflow upgrades some older databases without a word, in place and not in one transaction, and refuses others. Here all
older ones are upgraded, each as a copy that then takes its place; what it was before stays beside it.
"""

import contextlib
import sqlite3
import time
from pathlib import Path

import mlflow
from alembic.script import ScriptDirectory
from mlflow.store.db import utils

from circlemlp.errors import UserError
from circlemlp.store import disk


def revision(database: Path) -> str:
    """Return which schema a database has."""
    with contextlib.closing(sqlite3.connect(database.absolute())) as connection:
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(found[0]) if found else "none"


def upgrade(database: Path, remedy: str) -> str:
    """Bring a database to the schema of this MLflow; say in one line what was done, or nothing.

    Parameters
    ----------
    database : Path
    remedy : str
        What helps if it is not an older one.

    Raises
    ------
    UserError
        If MLflow does not know its schema: it is a newer one's.
    """
    scripts = ScriptDirectory(str(Path(utils.__file__).parents[1] / "db_migrations"))
    found = revision(database)
    if found == scripts.get_current_head():
        return ""
    if found not in {script.revision for script in scripts.walk_revisions()}:
        raise UserError(f"{database}: is not of MLflow {mlflow.__version__} or an older one (schema {found}); {remedy}")
    backup = database.with_name(f"{database.name}.before-{time.strftime('%Y%m%d-%H%M%S')}")
    with disk.aside(database.parent) as aside:
        for copy in (aside / "old.db", aside / "new.db"):
            _copy(database, copy)
        engine = utils.create_sqlalchemy_engine(f"sqlite:///{aside / 'new.db'}")
        try:
            utils._upgrade_db(engine)
        finally:
            engine.dispose()
        (aside / "old.db").rename(backup)
        (aside / "new.db").replace(database)
    return f"{database}: upgraded for MLflow {mlflow.__version__}; as it was before, it is {backup}"


def _copy(database: Path, copy: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(database.absolute())) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)

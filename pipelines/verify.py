"""Check that every record and result is what a training writes: python pipelines/verify.py"""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import checkout  # noqa: F401, for what it does: this checkout's library comes first
from circlemlp.errors import UserError
from circlemlp.report.recompute import disagreements
from circlemlp.run.compose import compose_one
from circlemlp.run.door import guarded, prepare
from circlemlp.store.identity import code_digest
from circlemlp.store.records import DamagedRecord, OtherFormat, Store
from circlemlp.store.results import exported_folders, read


def problems(store: Store, counts: Counter[str]) -> Iterator[str]:
    """Check the records of a store; yield a line for each that is damaged, and count what was checked."""
    for identity in store.identities():
        try:
            record = store.load(identity)
        except OtherFormat:
            counts["of another format"] += 1
            continue
        except (DamagedRecord, UserError) as error:
            counts["checked"] += 1
            yield str(error)
            continue
        counts["checked"] += 1
        if record.ingredients["code"] != code_digest():
            counts["of other code"] += 1
            continue
        counts["computed again"] += 1
        if found := list(disagreements(record)):
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            yield f"{store.path(identity)}: {found[0]}{more}"


def main() -> int:
    config = compose_one(sys.argv[1:])
    prepare(config)
    counts: Counter[str] = Counter()
    for line in problems(Store(Path(config.paths.records)), counts):
        counts["damaged"] += 1
        print(line)
    for folder in exported_folders():
        unread = counts["of another format"]
        lines = list(problems(Store(folder / "records"), counts))
        if not lines and counts["of another format"] == unread:
            try:
                read(folder)
            except UserError as error:
                lines = [str(error)]
        counts["damaged"] += len(lines)
        print("".join(f"{line}\n" for line in lines), end="")
    print(
        f"{counts['checked']} records checked, {counts['damaged']} damaged; "
        f"the last losses, accuracies and true errors of {counts['computed again']} were computed again"
    )
    if counts["of other code"]:
        print(
            f"of another version of the core, so that their numbers were not computed again: {counts['of other code']}"
        )
    if counts["of another format"]:
        print(f"of another format, which this version does not read: {counts['of another format']}")
    return 1 if counts["damaged"] else 0


if __name__ == "__main__":
    sys.exit(guarded(main))

"""What the documents say exists, exists."""

import importlib
import re

import pytest

from conftest import SOURCE

DERIVATION = (SOURCE / "docs/backpropagation.md").read_text()
DOCUMENTS = [SOURCE / "README.md", SOURCE / "CONTRIBUTING.md", *sorted((SOURCE / "docs").glob("*.md"))]


def test_every_equation_names_a_function_and_a_test_that_exist():
    rows = re.findall(r"^\| [^|]*\| (`[^|]*) \| (`[^|]*) \|$", DERIVATION, re.M)
    equations = set(re.findall(r"^> \((\d+[ab]?)\)", DERIVATION, re.M))
    named = "\n".join(re.findall(r"^\| ([^|]*\(\d[^|]*) \| `", DERIVATION, re.M))
    assert equations == set(re.findall(r"\((\d+[ab]?)\)", named))
    assert len(equations) >= 10
    sources = "\n".join(path.read_text() for path in (SOURCE / "tests").rglob("test_*.py"))
    for functions, tests in rows:
        for name in re.findall(r"`([\w.]+)`", functions):
            assert resolve(name), name
        for name in re.findall(r"`(\w+)`", tests):
            assert f"def {name}(" in sources, name


def resolve(name):
    first, rest = name.split(".")
    modules = dict.fromkeys(("Adam", "AdamW", "SGD"), "core.optimizers") | {"Schedule": "core.schedules"}
    modules |= dict.fromkeys(("HiddenLayers", "OneHiddenLayer"), "core.passes")
    modules |= {"Network": "core.network", "LossSum": "core.loss", "boundary": "boundary", "Cut": "core.tiles"}
    module = importlib.import_module(f"circlemlp.{modules.get(first, f'core.{first}')}")
    return getattr(getattr(module, first, module), rest, None)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_and_every_command_leads_somewhere(path):
    text = path.read_text()
    assert "@@" not in text  # a figure that is still to come
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert "://" in target or (path.parent / target).exists(), target
    for script in re.findall(r"python (pipelines/\w+\.py)", text):
        assert (SOURCE / script).exists(), script
    for target in re.findall(r"^make (\w+)", text, re.M):
        assert re.search(rf"^{target}:", (SOURCE / "Makefile").read_text(), re.M), target

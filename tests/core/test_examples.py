import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("circlemlp.core.optimizers", "Adam"),
        ("circlemlp.core.training", "train"),
        ("circlemlp.estimator", "MLPClassifier"),
    ],
)
def test_the_example_prints_what_it_says(module, name):
    documented = getattr(importlib.import_module(module), name)
    (example,) = [found for found in doctest.DocTestFinder(recurse=False).find(documented, name) if found.examples]
    assert doctest.DocTestRunner(optionflags=doctest.FAIL_FAST).run(example).failed == 0

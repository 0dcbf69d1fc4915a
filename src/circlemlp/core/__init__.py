"""The numeric core: everything that decides a result, in NumPy alone.

The SHA-256 of this package's sources is the *code digest* of a run. Everything that changes the numbers belongs here,
and everything else (configuration, storage, tracking, reports) belongs outside.

Read ``tests/plain.py`` first: in 88 lines it is the whole mathematics, without anything that makes it fast. Then read
the modules in the order of the derivation in ``docs/backpropagation.md``: ``streams``, ``data``, ``parameters``,
``initialisation``, ``activations``, ``loss``, ``tiles``, ``passes``, ``network``, ``optimizers``, ``schedules``,
``batches``, ``recipe``, ``training``. ``elementary`` says what the bits depend on beside this code; ``geometry`` and
``true_error`` compute how much of the square a trained network gets wrong.
"""

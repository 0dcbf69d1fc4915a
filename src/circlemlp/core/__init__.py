"""The numeric core: everything that decides a result, in NumPy alone.

The SHA-256 of this package's sources is the *code digest* of a run, so whatever changes the numbers
belongs here, and whatever does not (configuration, storage, tracking, reports) belongs outside.

Read it in the order of the derivation in ``docs/backpropagation.md``:
``streams``, ``data``, ``parameters``, ``initialisation``, ``activations``, ``loss``, ``tiles``, ``passes``,
``network``, ``optimizers``, ``schedules``, ``batches``, ``training``.
"""

"""The contenders of `bench.validation`, each a module with `check(task) -> names of failed expectations`.

`python -m bench.peers NAME` with a task on standard input runs one in this process and prints how long
the work took. What a module imports at its top, and what its `prepare(task)` does, is not part of the work.
"""

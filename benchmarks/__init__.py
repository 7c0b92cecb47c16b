"""Benchmarks: this library beside the others, and the report in the README.

``pytest benchmarks --benchmark-json RESULTS.json`` times everything that is installed (see `conftest` for the options),
``python -m benchmarks.report RESULTS.json --readme README.md --plots DIR`` writes the README's tables and plots, and
``python -m benchmarks.fidelity --readme README.md`` measures errors instead of time.
"""

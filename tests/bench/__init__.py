"""Measurements: programs that print figures, run by hand (`.venv/bin/python -m tests.bench.NAME`)."""

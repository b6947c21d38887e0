"""Nonsense and malice against a front: `python -m tests.fuzz --minutes 5 --seed 7`."""

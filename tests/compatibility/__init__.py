"""The version before this one, and this one beside it.

baseline.toml    which version that is: its commit, and when it was recorded
baseline.binpb   its contract, as descriptors; `make proto-lint` compares with it
baseline.json.gz what its programs had left in a Redis: waiting, running and ended generations
baseline-sealed.json.gz  the same, signed and encrypted with `keys`, which protect nothing else
baseline.py      reads these
checkout.py      its programs, from the repository's history
record.py        `python -m tests.compatibility.record COMMIT` records another one
driver.py        a fleet of both versions under chaos;  __main__.py  `make mixed`
"""

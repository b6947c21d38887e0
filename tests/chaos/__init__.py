"""Chaos: a real fleet whose processes die at any moment, judged by its callers alone.

fleet.py        the processes: Valkey, fronts, workers; how each dies and comes back
proxy.py        connections between callers and fronts that can be cut or silenced
schedule.py     which failure comes when, from a seed
failures.py     does it, and mends it
specs.py        what is asked for, from a seed
observation.py  what one caller saw of one generation, and what is wrong with it
callers.py      callers of the SDK;  wire.py  a caller that reads the bare events
verdict.py      all observations against all failures: violations, gaps, a table
driver.py       one run from its start to its verdict
"""

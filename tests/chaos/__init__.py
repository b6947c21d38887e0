"""Chaos: a real fleet whose processes die at any moment, judged by its callers alone.

process.py      one program of the fleet;  fleet.py  all of them together
proxy.py        connections between callers and fronts that can be cut or silenced
schedule.py     which failure comes when, from a seed
failures.py     makes it come, and mends it
specs.py        what is asked for, from a seed
reference.py    which outputs must be the same to the last token
observation.py  what one caller saw of one generation, and what is wrong with it
clients.py      the SDK's clients;  callers.py  what callers do with them
wire.py         a caller that reads the bare events
lone_caller.py  a caller in a process of its own, for being killed
verdict.py      all observations against all failures: violations, gaps, a table
driver.py       one run from its start to its verdict
command.py      what all long runs have in common on the command line
"""

"""Soak: steady load on a real fleet; nothing may grow.

sampling.py   what every process and Valkey hold at one moment
growth.py     what may grow, and by how much
__main__.py   one run: the fleet, the load, the table
"""

"""`miao plan`: simulates a fleet, to say how many workers a load needs before they are rented.

    load ─────── fleet ───────────── outcome ─── sizing ─── report, plot
    arrivals,    one queue, workers  what the    the fewest  for people;
    lengths      that come and go    callers     workers     document: JSON
                 │                   felt
                 worker              calibration ◄── fitting ◄── bench_steps
                 a step of the       how long a      from measurements
                 real scheduler      step takes

It needs no service, no torch and no numpy. docs/planning.md defines each figure and
says what is left out.
"""

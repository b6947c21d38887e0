"""`miao bench`: offers a service a load, and says what its callers would have felt.

    settings ── plan ── runner ── records ── metrics ── report ── tables, plot
    what to     what    sends it  one per    p50, p90   JSON      for people
    measure     when              request    and p99

It knows a service through the SDK alone. docs/benchmarking.md defines each figure.
"""

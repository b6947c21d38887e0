"""`miao bench`: offers a service a load, and says what its callers would have felt.

    settings ── plan ── runner ── records ── metrics ── sweep ─── tables, plot
    what to     what    sends it  one per    p50, p90   of all    for people;
    measure     when              request    and p99    loads     document: JSON

It knows a service through the SDK alone. docs/benchmarking.md defines each figure.
"""

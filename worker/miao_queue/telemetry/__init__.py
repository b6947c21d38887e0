"""How fronts and workers tell what they do: metrics, logs and traces.

None of it ever holds a prompt, an output or a key.
"""

"""What fronts and workers share: keys, records, journals, claims, submission.

Imports neither side, and no torch. Fronts use the asynchronous half
(`GenerationStore`), workers the synchronous one (`ClaimStore`); both run the
same Lua scripts, so that every change of a generation's state is one atomic
step in Redis.
"""

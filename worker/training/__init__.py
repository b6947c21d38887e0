"""The programs that make the bundled model: corpus, tokenizer, training, evaluation.

Not part of the wheel. Everything here is a pure function of a seed.
"""

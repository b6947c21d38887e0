"""Imports what an engine needs, and nothing else: engines are forked from here.

No tensor is made and no device is touched before the fork: threads of the
libraries and a CUDA context would not survive it.
"""

import transformers.generation
import transformers.models.auto.modeling_auto
import transformers.models.auto.tokenization_auto  # noqa: F401

import miao_worker.engine_loading  # noqa: F401

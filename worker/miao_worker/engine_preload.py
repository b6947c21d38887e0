"""Imports what an engine needs, and nothing else: engines are forked from here.

No tensor is made and no device is touched before the fork: threads of the
libraries and a CUDA context would not survive it.
"""

import transformers.generation
import transformers.models.auto.modeling_auto
import transformers.models.auto.tokenization_auto  # noqa: F401

import miao_worker.encoder_card
import miao_worker.engine.encoder.engine
import miao_worker.engine.encoder.tasks
import miao_worker.engine.engine
import miao_worker.engine.explain.loading
import miao_worker.engine.tensor_parallel.loading
import miao_worker.model_card  # noqa: F401

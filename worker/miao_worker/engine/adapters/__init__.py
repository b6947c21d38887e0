"""Low-rank adapters (LoRA; Hu et al., 2021) beside a base model: several of them in one batch."""

"""OpenAI's HTTP API in front of a Miao service: a thin client of its gRPC contract.

It needs the extra `miao[gateway]`, and neither Redis nor torch.
"""

"""The gRPC front: validates, tokenizes, enqueues, and relays journals as bytes.

Stateless: any front can answer any call, and a front that dies loses nothing.
Knows neither torch nor transformers; what it must know of a model comes from
the card that its workers publish.
"""

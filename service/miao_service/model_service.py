"""ModelService: what can be asked of which model."""

from __future__ import annotations

import asyncio

from miao.v1 import model_service_pb2 as rpc
from miao_service.handlers import Call
from miao_service.models import ModelCatalog
from miao_service.settings import ServiceSettings


class ModelServicer:
    """Answers ModelService. One method for each of the contract's."""

    def __init__(self, settings: ServiceSettings, catalog: ModelCatalog) -> None:
        self._catalog = catalog
        self._redis_timeout = settings.redis_timeout_seconds

    async def list_models(
        self, request: rpc.ListModelsRequest, call: Call
    ) -> rpc.ListModelsResponse:
        await self._refresh()
        models = self._catalog.models
        return rpc.ListModelsResponse(models=[models[name].to_message() for name in sorted(models)])

    async def get_model(self, request: rpc.GetModelRequest, call: Call) -> rpc.GetModelResponse:
        await self._refresh()
        model = await self._catalog.resolve(request.name, "name")
        return rpc.GetModelResponse(model=model.to_message())

    async def tokenize(self, request: rpc.TokenizeRequest, call: Call) -> rpc.TokenizeResponse:
        model = await self._catalog.resolve(request.model, "model")
        if request.HasField("chat"):
            chat, tools = request.chat, request.tools
            token_ids = (
                await self._catalog.encode_chat(model, chat, "chat", tools, "tools")
            ).token_ids
        else:
            token_ids = await self._catalog.encode(model, request.prompt, "prompt")
        return rpc.TokenizeResponse(
            token_ids=token_ids,
            tokens=model.tokenizer.forms(token_ids),
            max_model_length=model.card.max_model_length,
        )

    async def _refresh(self) -> None:
        async with asyncio.timeout(self._redis_timeout):
            await self._catalog.refresh()

"""A front: its parts put together, started, drained and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from redis.exceptions import RedisError

from miao.v1 import (
    explain_service_pb2,
    fleet_service_pb2,
    generation_service_pb2,
    model_service_pb2,
    score_service_pb2,
    understanding_service_pb2,
    usage_service_pb2,
)
from miao_queue.addresses import Shard, ShardMap
from miao_queue.audit import Audit, AuditTrail
from miao_queue.cards import Cards
from miao_queue.connection import connect_async
from miao_queue.fleet import FleetStore
from miao_queue.key_ring import KeyRing
from miao_queue.store import GenerationStore
from miao_queue.telemetry.faults import describe
from miao_queue.usage import UsageStore
from miao_service import metrics
from miao_service.abandonment import Abandonment
from miao_service.auth.access import Access
from miao_service.auth.api_key_verifier import KeySource
from miao_service.auth.api_keys import ApiKeyStore
from miao_service.auth.authenticator import Authenticator
from miao_service.auth.gate import GateInterceptor
from miao_service.decoding import DecodingInterceptor
from miao_service.errors import DrainingError
from miao_service.explain_resolution import ExplainResolver
from miao_service.explain_service import ExplainServicer
from miao_service.fleet_service import FleetServicer, FleetSource
from miao_service.formats.compiler import FormatCompiler
from miao_service.generation_service import GenerationServicer
from miao_service.handlers import generic_handler
from miao_service.health import HealthPort, HealthServicer
from miao_service.journal_reader import JournalReader
from miao_service.merged_views import (
    MergedAudit,
    MergedCards,
    MergedFleet,
    MergedKeys,
    MergedUsage,
)
from miao_service.model_service import ModelServicer
from miao_service.models import CardSource, ModelCatalog
from miao_service.places import Place, Places
from miao_service.policies import PolicyFile
from miao_service.ports import BindError, check_free
from miao_service.resolution import Resolver
from miao_service.score_resolution import ScoreResolver
from miao_service.score_service import ScoreServicer
from miao_service.settings import ServiceSettings
from miao_service.single_answers import SingleAnswers
from miao_service.submitter import Submitter
from miao_service.understanding_resolution import UnderstandingResolver
from miao_service.understanding_service import UnderstandingServicer
from miao_service.usage_service import UsageServicer, UsageSource

logger = logging.getLogger(__name__)

_GENERATION = generation_service_pb2.DESCRIPTOR.services_by_name["GenerationService"]
_MODEL = model_service_pb2.DESCRIPTOR.services_by_name["ModelService"]
_SCORE = score_service_pb2.DESCRIPTOR.services_by_name["ScoreService"]
_UNDERSTANDING = understanding_service_pb2.DESCRIPTOR.services_by_name["UnderstandingService"]
_EXPLAIN = explain_service_pb2.DESCRIPTOR.services_by_name["ExplainService"]
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
_USAGE = usage_service_pb2.DESCRIPTOR.services_by_name["UsageService"]
_FLEET = fleet_service_pb2.DESCRIPTOR.services_by_name["FleetService"]
_OURS = (_GENERATION, _UNDERSTANDING, _SCORE, _EXPLAIN, _MODEL, _USAGE, _FLEET)

MAX_REQUEST_BYTES = 16 * 1024 * 1024
_WAITING_CONNECTIONS = 256
_AUDIT_SECONDS = 0.5
_TRIM_SECONDS = 3600.0
_EXPIRE_SECONDS = 1.0  # between two looks for what has waited too long


class Front:
    """One process's front. `start`, then `drain`, then it is over."""

    def __init__(
        self, settings: ServiceSettings, authenticator: Authenticator | None = None
    ) -> None:
        """Make one that knows callers as the settings say, unless it is told by what."""
        self._access = Access(settings)
        front_id = f"front-{secrets.token_hex(8)}"
        self._settings = settings
        self.policies = PolicyFile(settings.limits_file)
        self.places = self._make_places(settings, front_id)
        views = _views(self.places, settings)
        self._audit, self._usage_store = views.audit, views.kept_usage
        self.catalog = ModelCatalog(views.cards, settings.forget_model_seconds)
        self._authenticator = authenticator or self._access.authenticator(views.keys)
        self._formats = FormatCompiler()
        resolver = Resolver(self.catalog, settings, self._formats)
        submitter = Submitter(settings, resolver.look_again, self.policies)
        self._abandonment = Abandonment(submitter, self.places)
        self._generations = GenerationServicer(
            settings, self.places, resolver, submitter, self._abandonment
        )
        scores = ScoreResolver(resolver, self.catalog, settings)
        self._scores = ScoreServicer(self.places, scores, submitter)
        single_answers = SingleAnswers(self.places, submitter, self._abandonment)
        self._understanding = UnderstandingServicer(
            UnderstandingResolver(self.catalog, settings), single_answers
        )
        self._explain = ExplainServicer(ExplainResolver(self.catalog, settings), single_answers)
        self._models = ModelServicer(settings, self.catalog)
        self._usage = UsageServicer(settings, views.usage)
        self._fleet = FleetServicer(settings, views.fleet, self.catalog, self._audit)
        self._health = HealthServicer()
        self._health_port = HealthPort(
            self._health, settings.health_listen, reuse_port=settings.reuse_port
        )
        self.health_address = ""  # of its own port, once it listens
        self._tasks: list[asyncio.Task[None]] = []
        self._server = self._build_server()
        self._answers = True  # Redis, at the last look

    def _make_places(self, settings: ServiceSettings, front_id: str) -> Places:
        # Each has connections of its own, so that a burst of calls stops neither
        # the streams that are open nor the look at the models. An acceptance that
        # must be safe keeps its connection for as long as Redis's disk takes.
        many = _WAITING_CONNECTIONS if settings.acceptance.is_asked_for else 32
        protection = self._access.protection

        def make(shard: Shard) -> Place:
            commands, journals, looks = (
                connect_async(shard.url, max_connections=count) for count in (many, 16, 4)
            )
            reader = JournalReader(
                journals,
                front_id,
                settings.stream_buffer_bytes,
                settings.redis_timeout_seconds,
                settings.follow_outage_seconds,
                protection.vault,
            )
            store = GenerationStore(commands, front_id, settings.acceptance, protection)
            waiting = GenerationStore(looks, front_id, protection=protection)
            return Place(shard, commands, looks, journals, store, waiting, reader)

        shards = ShardMap.parse(settings.redis_url)
        made = [make(shard) for shard in shards.shards]
        return Places(shards, made, self.policies, settings.redis_timeout_seconds)

    @property
    def reader(self) -> JournalReader:
        """Of the first Redis."""
        return self.places.all[0].reader

    async def start(self) -> int:
        """Listen, and return the port; BindError if it is not to be had."""
        port = self._bind()
        self.health_address = await self._health_port.start()
        await self._look()
        self._tasks = [
            asyncio.create_task(self._keep_looking(), name="model-catalog"),
            asyncio.create_task(self._keep_accounts(), name="accounts"),
        ]
        for place in self.places.all:
            self._tasks += (
                asyncio.create_task(place.reader.run(), name="journal-reader"),
                asyncio.create_task(self._keep_expiring(place), name="overdue"),
            )
        await self._server.start()
        return port

    async def drain(self) -> None:
        """Take no more calls, give open streams their time, send the rest elsewhere, stop."""
        self._abandonment.is_draining = True
        self._health.close()
        grace = self._settings.drain_seconds
        stopping = asyncio.ensure_future(self._server.stop(grace + 1))
        done, _ = await asyncio.wait([stopping], timeout=grace)
        if not done:
            logger.info("%d streams go to other fronts", self.places.num_followers)
            self.places.fail_all(DrainingError())
        await stopping
        await self._close()

    async def _close(self) -> None:
        await _end(self._tasks)
        await self._abandonment.settle()
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(self._settings.redis_timeout_seconds):
                await self._audit.flush()
        self.catalog.close()
        await self._formats.close()
        await self._access.close()
        await self._health_port.stop()
        await self.places.close()

    def _build_server(self) -> Any:
        age = self._settings.max_connection_age_seconds
        options: list[tuple[str, int]] = [
            ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
            ("grpc.so_reuseport", int(self._settings.reuse_port)),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.http2.ping_timeout_ms", 10_000),  # see CHANNEL_OPTIONS of the SDK
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.http2.max_ping_strikes", 0),
        ]
        if age:
            # No grace is set: streams on the old connection end in their own time.
            options.append(("grpc.max_connection_age_ms", int(age * 1000)))
        interceptors = [GateInterceptor(self._authenticator, self._audit), DecodingInterceptor()]
        server = grpc.aio.server(options=options, interceptors=interceptors)
        servicers = {
            _GENERATION: self._generations,
            _UNDERSTANDING: self._understanding,
            _MODEL: self._models,
            _SCORE: self._scores,
            _EXPLAIN: self._explain,
            _USAGE: self._usage,
            _FLEET: self._fleet,
        }
        server.add_generic_rpc_handlers(
            tuple(
                generic_handler(service, servicer, self._authenticator, self._audit)
                for service, servicer in servicers.items()
            )
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [service.full_name for service in (*_OURS, _HEALTH)]
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server)
        return server

    def _bind(self) -> int:
        listen = self._settings.listen
        if not self._settings.reuse_port:
            check_free(listen)  # gRPC would say it in lines of its own
        tls = self._access.tls
        try:
            if tls is None:
                return int(self._server.add_insecure_port(listen))
            return int(self._server.add_secure_port(listen, tls.credentials()))
        except RuntimeError as error:
            raise BindError(f"cannot listen on {listen}") from error

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._settings.refresh_seconds)
            await self._look()

    async def _keep_expiring(self, place: Place) -> None:
        """End what waits for longer than it may; every front does, since any may be the last."""
        while True:
            await asyncio.sleep(_EXPIRE_SECONDS)
            try:
                async with asyncio.timeout(self._settings.redis_timeout_seconds):
                    while ended := await place.waiting.expire_overdue():
                        metrics.OVERDUE.inc(ended)
            except (RedisError, OSError, TimeoutError):
                continue  # the look at the models says it
            except Exception as error:
                logger.error("looking for what is overdue failed: %s", describe(error))

    async def _keep_accounts(self) -> None:
        """Write the audit; forget usage records that are older than they are kept."""
        trim_at = 0.0
        while True:
            await asyncio.sleep(_AUDIT_SECONDS)
            try:
                async with asyncio.timeout(self._settings.redis_timeout_seconds):
                    await self._audit.flush()
                    if time.monotonic() >= trim_at:
                        kept_ms = self._settings.usage_retention_days * 86_400_000
                        await self._usage_store.trim(int(time.time() * 1000) - kept_ms)
                        trim_at = time.monotonic() + _TRIM_SECONDS
            except (RedisError, OSError, TimeoutError):
                continue  # the look at the models says it
            except Exception as error:
                logger.error("keeping the accounts failed: %s", describe(error))
            dropped, self._audit.num_dropped = self._audit.num_dropped, 0
            metrics.AUDIT_DROPPED.inc(dropped)

    async def _look(self) -> None:
        """Look at the limits, at Redis and the models, and tell health."""
        self.policies.look()
        try:
            async with asyncio.timeout(self._settings.redis_timeout_seconds):
                await self.catalog.refresh()
            answers = True
        except (RedisError, OSError, TimeoutError) as error:
            if self._answers:
                logger.warning("Redis does not answer: %s", type(error).__name__)
            answers = False
        except Exception as error:
            logger.error("looking at the models failed: %s", describe(error))
            answers = False
        if answers and not self._answers:
            logger.warning("Redis answers again")
        self._answers = answers
        models = self.catalog.models.items()
        metrics.REDIS_UP.set(answers)
        if self.places.only is None:
            for place in self.places.all:
                metrics.SHARD_UP.labels(place.name).set(answers and place.is_up)
        if answers:
            metrics.note_models({name: model.status for name, model in models})
        statuses = {name: answers and model.status.num_workers > 0 for name, model in models}
        fronts = ("", *(service.full_name for service in _OURS))
        self._health.tell(statuses | dict.fromkeys(fronts, answers))


@dataclass(frozen=True, slots=True)
class _Views:
    """What is read of all Redis together."""

    cards: CardSource
    keys: Callable[[KeyRing], KeySource]
    audit: AuditTrail
    usage: UsageSource
    kept_usage: UsageStore | MergedUsage  # on connections that no burst of calls holds up
    fleet: FleetSource


def _views(places: Places, settings: ServiceSettings) -> _Views:
    if (place := places.only) is None:
        usage = MergedUsage(places)
        return _Views(
            MergedCards(places),
            lambda peppers: MergedKeys(
                places.ask, {each: ApiKeyStore(each.commands, peppers) for each in places.all}
            ),
            MergedAudit(places, settings.audit_entries),
            usage,
            usage,
            MergedFleet(places),
        )
    return _Views(
        Cards(place.looks),
        partial(ApiKeyStore, place.commands),
        Audit(place.looks, settings.audit_entries),
        UsageStore(place.commands),
        UsageStore(place.looks),
        FleetStore(place.commands),
    )


@contextlib.asynccontextmanager
async def running_front(
    settings: ServiceSettings, authenticator: Authenticator | None = None
) -> Any:
    """A front within this process: yields it and its port, and drains it at the end."""
    front = Front(settings, authenticator)
    port = await front.start()
    try:
        yield front, port
    finally:
        await front.drain()


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel until it is heeded: asyncio.wait_for, which redis-py uses, may swallow it."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.1)

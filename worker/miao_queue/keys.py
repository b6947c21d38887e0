"""Every key that Miao writes in Redis, beside those that RQ writes itself.

    miao:gen:<id>            hash    a generation's state (see records.py)
    miao:journal:<id>        stream  its events; the entry id is "<tokens so far>-0",
                                     that of the terminal event "<tokens>-1"
    miao:leases              zset    running generations by the time their claim ends, ms
    miao:waiting             zset    queued generations by the time their wait ends, ms
    miao:tenant:<tenant>     zset    a tenant's generations by acceptance time, ms
    miao:line:<queue>:<tenant>
                             list    what a tenant has waiting in a queue, the oldest first; of
                                     nobody ("") what came back from a worker
    miao:turns:<queue>       zset    the tenants that have a line there, by their virtual tokens
    miao:served:<model>      zset    tenants by the virtual tokens that they were served; of
                                     nobody: of the last one whose line ended
    miao:load:<queue>        hash    tokens that wait there: "<tenant>:prompt", "<tenant>:output",
                                     and "<tenant>:weight"
    miao:open:<model>:<tenant>
                             zset    a tenant's generations that have not ended, by deadline, ms
    miao:spent:<model>:<tenant>
                             hash    "requests:<second>" and "tokens:<second>" of its acceptances
    miao:pace:<model>        hash    "<tokens a second> <share of the most output> <until, ms>"
                                     of workers that had all that they can do
    miao:usage_tenants       set     tenants that have usage
    miao:usage:<tenant>      stream  what each generation of a tenant took, when it ended
    miao:usage_day:<tenant>:<day>
                             hash    the sums of a day (since 1970, UTC): "requests:<model>",
                                     "prompt:", "cached:" and "output:" in tokens
    miao:audit               stream  who did what at the fronts, as far back as is kept
    miao:worker:<worker>     string  a worker's state for those who watch, a FleetWorker
    miao:fleet               zset    the workers that have one, by the time it ends, ms
    miao:models              set     names of the models that workers have announced
    miao:model:<name>        hash    a model's card, its digest, its vocabulary's, and when
                                     a worker last served it, ms
    miao:workers:<name>      zset    a model's live workers by the time their presence ends, ms
    miao:holders:<name>:<digest>
                             zset    those of them that have a card, a vocabulary or weights of
                                     this digest
    miao:bell:<name>         stream  rings when a job is queued for the model
    miao:control:<worker>    stream  commands to one worker
    miao:front:<front>       stream  wakes a front's journal reader
    miao:reaper              string  lock of the worker that looks for ended leases
    miao:api-keys            set     ids of the API keys
    miao:api-key:<id>        hash    an API key without its secret

The generation's id is also its RQ job's id.
"""

from __future__ import annotations

LEASES = "miao:leases"
MODELS = "miao:models"
AUDIT = "miao:audit"
FLEET = "miao:fleet"
USAGE_TENANTS = "miao:usage_tenants"
WAITING = "miao:waiting"
API_KEYS = "miao:api-keys"

PRIORITIES = ("high", "normal", "low")  # in the order in which workers look


def generation(generation_id: str) -> str:
    return f"miao:gen:{generation_id}"


def journal(generation_id: str) -> str:
    return f"miao:journal:{generation_id}"


def tenant(name: str) -> str:
    return f"miao:tenant:{name}"


def line(queue: str, tenant_name: str) -> str:
    return f"miao:line:{queue}:{tenant_name}"


def turns(queue: str) -> str:
    return f"miao:turns:{queue}"


def served(model_name: str) -> str:
    return f"miao:served:{model_name}"


def load(queue: str) -> str:
    return f"miao:load:{queue}"


def open_generations(model_name: str, tenant_name: str) -> str:
    return f"miao:open:{model_name}:{tenant_name}"


def spent(model_name: str, tenant_name: str) -> str:
    return f"miao:spent:{model_name}:{tenant_name}"


def pace(model_name: str) -> str:
    return f"miao:pace:{model_name}"


def usage(tenant_name: str) -> str:
    return f"miao:usage:{tenant_name}"


def usage_day(tenant_name: str, day: int) -> str:
    return f"miao:usage_day:{tenant_name}:{day}"


def worker(name: str) -> str:
    return f"miao:worker:{name}"


def model(name: str) -> str:
    return f"miao:model:{name}"


def workers(model_name: str) -> str:
    return f"miao:workers:{model_name}"


def bell(model_name: str) -> str:
    return f"miao:bell:{model_name}"


def control(worker: str) -> str:
    return f"miao:control:{worker}"


def front(front_id: str) -> str:
    return f"miao:front:{front_id}"


def api_key(key_id: str) -> str:
    return f"miao:api-key:{key_id}"


def queue_name(model_name: str, priority: str) -> str:
    """Name of the RQ queue for a model and priority."""
    return f"{model_name}:{priority}"


def queue_names(model_name: str) -> list[str]:
    """Names of a model's RQ queues, the most urgent first."""
    return [queue_name(model_name, priority) for priority in PRIORITIES]


def queue_key(name: str) -> str:
    """The list behind an RQ queue."""
    return f"rq:queue:{name}"

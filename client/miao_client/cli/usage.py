"""`miao usage` and `miao audit`: what was taken, and who did what."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

import typer

from miao_client.cli import arguments, output
from miao_client.sync.client import Client


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(usage)
    app.command()(audit)


def usage(
    target: arguments.Target = None,
    days: Annotated[int, typer.Option(help="So many days, up to today.", min=1, max=100)] = 1,
    tenant: Annotated[str | None, typer.Option(help="Another's; for operators.")] = None,
    all_tenants: Annotated[bool, typer.Option("--all", help="Of all; for operators.")] = False,
    records: Annotated[
        bool, typer.Option("--records", help="What each generation took, as JSON lines.")
    ] = False,
    after: Annotated[str, typer.Option(help="With --records: go on behind this token.")] = "",
    json: arguments.Json = False,
) -> None:
    """Show what was taken, for the bill. --records ends with the token to go on from."""
    with output.reporting(), Client(target) as client:
        if records:
            _write_records(client, tenant, after)
            return
        today = datetime.now().astimezone().date()
        found = client.usage(
            first_day=today - timedelta(days=days - 1),
            last_day=today,
            tenant=tenant,
            all_tenants=all_tenants,
        )
    if json:
        output.write_json(found)
        return
    output.write_table(
        ["TENANT", "DAY", "MODEL", "REQUESTS#", "PROMPT#", "CACHED#", "OUTPUT#"],
        [
            (
                each.tenant,
                each.day,
                each.model,
                f"{each.num_requests:,}",
                f"{each.prompt_tokens:,}",
                f"{each.cached_prompt_tokens:,}",
                f"{each.output_tokens:,}",
            )
            for each in found
        ],
    )


def audit(
    target: arguments.Target = None,
    limit: Annotated[int, typer.Option(help="The most to show.", min=1, max=1000)] = 50,
    json: arguments.Json = False,
) -> None:
    """Show who did what, the newest first. Needs the scope "operate"."""
    with output.reporting(), Client(target) as client:
        found = client.audit(page_size=limit).records
    if json:
        output.write_json(found)
        return
    output.write_table(
        ["TIME", "TENANT", "CREDENTIAL", "ACTION", "OUTCOME", "GENERATION"],
        [
            (
                f"{each.time.astimezone():%Y-%m-%d %H:%M:%S}",
                each.tenant,
                each.credential,
                each.action,
                each.outcome,
                each.generation_id,
            )
            for each in found
        ],
    )


def _write_records(client: Client, tenant: str | None, after: str) -> None:
    while True:
        page = client.usage_records(page_size=1000, page_token=after, tenant=tenant)
        for record in page.records:
            output.write_json_line(record)
        after = page.next_page_token
        if not page.records:
            break
    output.write_json_line({"next": after})

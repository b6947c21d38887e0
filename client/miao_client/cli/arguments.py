"""Options that several commands have in common."""

from __future__ import annotations

from typing import Annotated

import typer

from miao_client.options import Truncation

Target = Annotated[
    str | None,
    typer.Option(
        envvar="MIAO_TARGET",
        help="Address of the service; several with commas. Default: localhost:50051.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", envvar="MIAO_MODEL", help="Name of the model."),
]
Timeout = Annotated[
    float | None,
    typer.Option(envvar="MIAO_TIMEOUT", help="Seconds that the generation may take."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
MaxTokens = Annotated[int | None, typer.Option(help="The most tokens to generate.")]
MaxPromptTokens = Annotated[int | None, typer.Option(help="The most tokens of the prompt.")]
TruncationChoice = Annotated[
    Truncation | None,
    typer.Option("--truncation", help="What becomes of a prompt that is too long."),
]
Temperature = Annotated[
    float | None, typer.Option(help="0 to 5; 0 takes the likeliest token.", show_default=False)
]
TopP = Annotated[float | None, typer.Option(help="Above 0, at most 1.")]
TopK = Annotated[int | None, typer.Option(help="0 keeps all tokens.")]
MinP = Annotated[float | None, typer.Option(help="0 to 1.")]
RepetitionPenalty = Annotated[
    float | None, typer.Option(help="Of tokens in prompt and output; 1 changes nothing.")
]
PresencePenalty = Annotated[float | None, typer.Option(help="Of tokens in the output: -2 to 2.")]
FrequencyPenalty = Annotated[
    float | None, typer.Option(help="Of each of a token's times in the output: -2 to 2.")
]
MinTokens = Annotated[int | None, typer.Option(help="Tokens before which no stop takes effect.")]
Seed = Annotated[int | None, typer.Option(help="Makes the answer repeatable.")]
GenerationId = Annotated[str, typer.Argument(metavar="ID", help="The generation's id.")]

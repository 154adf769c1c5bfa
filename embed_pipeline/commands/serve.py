"""`embed-pipeline serve`: a variant behind HTTP, until it is asked to end."""

import os

import click
from rich.markup import escape

from embed_pipeline.commands.terminal import ProjectCommand, console, pass_interruption
from embed_pipeline.encoding.encoder import Role
from embed_pipeline.interruption import GRACE_SECONDS, Interruption

API_KEY_VARIABLE = "EMBED_PIPELINE_API_KEY"


@click.command(cls=ProjectCommand)
@click.argument("name", metavar="VARIANT|DATASET")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Another than this machine's own takes an API key."
)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free.")
@click.option(
    "--input-type", type=click.Choice(["query", "passage"]), help="What texts are where a request does not say."
)
@click.option(
    "--batch",
    default=32,
    show_default=True,
    type=click.IntRange(1),
    help="Searches, or pairs, through the model at once.",
)
@click.option(
    "--batch-tokens",
    type=click.IntRange(1),
    help="Of texts to encode at once, about.  [default: one pass of the encoder]",
)
@click.option(
    "--queue", default=4096, show_default=True, type=click.IntRange(1), help="Texts that may wait; beyond: 429."
)
@pass_interruption
def serve(
    interruption: Interruption,
    name: str,
    host: str,
    port: int,
    input_type: Role | None,
    batch: int,
    batch_tokens: int | None,
    queue: int,
) -> None:
    """Answer HTTP requests with a variant, or with the promoted checkpoint of a data set.

    Paths: /v1/embeddings as OpenAI has it, /v1/rerank, /search, /healthz, /metrics, and a page to try queries in. What
    a later run builds or promotes is taken while requests go on. EMBED_PIPELINE_API_KEY is asked for where it is set.
    """
    from embed_pipeline.defs.resources import pipeline_from_environment
    from embed_pipeline.serving.server import STOP_SECONDS, Server, ServerSettings

    key = os.environ.get(API_KEY_VARIABLE)
    if key is not None and len(key) < 8:
        raise click.ClickException(
            f"{API_KEY_VARIABLE}: expected at least 8 characters, found {len(key)}. Unset it to ask for none."
        )

    def say(line: str) -> None:
        console.print(escape(line), soft_wrap=True)

    settings = ServerSettings(
        host=host,
        port=port,
        batch=batch,
        batch_tokens=batch_tokens,
        queue=queue,
        api_key=key,
        input_type=input_type,
    )
    # A variant on request may be named as well.
    pipeline = pipeline_from_environment().model_copy(update={"on_request": True})
    server = Server(lambda: pipeline.graph(), name, settings, say)
    address = server.start()
    say(f"serving {server.served.variant} {server.served.checkpoint[:12]} on {address} (stop with Ctrl-C)")
    interruption.grace_seconds = STOP_SECONDS + GRACE_SECONDS
    try:
        server.wait()
    except KeyboardInterrupt:
        server.stop()
        say("Stopped. What was asked before was answered.")
        raise
    raise click.ClickException("the service ended by itself; what is above says why")

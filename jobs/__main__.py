"""The command line: `rayembed …`, or `python -m jobs …` from a checkout and inside `ray job submit`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from actors.embedder.dialects import DIALECTS
from actors.errors import FAILED, INTERRUPTED, UserError
from jobs import __version__

if TYPE_CHECKING:
    from jobs.settings import Settings


class _Number(click.ParamType[int | str]):
    """A whole number of at least 1, or `auto` where that is allowed."""

    def __init__(self, auto: bool) -> None:
        self._auto = auto
        self.name = "N|auto" if auto else "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if self._auto and value == "auto":
            return "auto"
        try:
            number = int(value)
        except ValueError:
            number = 0
        if number < 1:
            self.fail(
                f"{value!r} is not {'auto or ' if self._auto else ''}a whole number of at least 1", param, ctx
            )
        return number


_COUNT, _AUTO = _Number(auto=False), _Number(auto=True)
_PRICE = click.FloatRange(min=0)

# option -> key of the settings; what was not given on the command line stays as the file or the default says
_KEYS = {
    "inputs": ("input.paths", "INPUT"),
    "out": ("output.path", "--out"),
    "endpoint": ("endpoints", "--endpoint"),
    "model": ("model", "--model"),
    "dialect": ("dialect", "--dialect"),
    "api_key_env": ("api_key_env", "--api-key-env"),
    "text_column": ("input.text_column", "--text-column"),
    "id_column": ("input.id_column", "--id-column"),
    "keep": ("input.keep", "--keep"),
    "use_async": ("async_inference.enabled", "--async/--sync"),
    "async_preset": ("async_inference.preset", "--async-preset"),
    "concurrent": ("async_inference.concurrent_requests", "--concurrent"),
    "concurrency": ("async_inference.concurrent_requests", "--concurrency"),
    "batch_size": ("async_inference.batch_size", "--batch-size"),
    "max_batch_size": ("async_inference.max_batch_size", "--max-batch-size"),
    "actors": ("async_inference.actors", "--actors"),
    "batch": ("input.batch", "--batch"),
    "limit": ("input.limit", "--limit"),
    "too_long": ("input.too_long", "--too-long"),
    "reuse": ("input.reuse", "--reuse"),
    "unique_ids": ("input.unique_ids", "--unique-ids"),
    "prompt": ("vectors.prompt", "--prompt"),
    "prompt_name": ("vectors.prompt_name", "--prompt-name"),
    "dimensions": ("vectors.dimensions", "--dimensions"),
    "normalize": ("vectors.normalize", "--normalize"),
    "allow_mixed": ("vectors.allow_mixed", "--allow-mixed"),
    "text_files": ("input.text_files", "--text-files"),
    "dtype": ("output.dtype", "--dtype"),
    "sink": ("output.sink", "--sink"),
    "address": ("ray.address", "--address"),
    "skip_bad_nodes": ("ray.skip_bad_nodes", "--skip-bad-nodes"),
}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def cli() -> None:
    """Fill the GPUs behind embedding servers: corpus in, Parquet vectors out, each row exactly once."""


@cli.command()
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@click.option("-o", "--out", metavar="OUT", help="Folder for the vectors, or a URL (s3://, gs://, az://).")
@click.option("--endpoint", multiple=True, metavar="URL", help="Embedding server, with or without /v1; repeatable.")
@click.option("--model", metavar="NAME", help="Model name sent with each request.  [default: asked of the server]")
@click.option("--dialect", type=click.Choice(["auto", *DIALECTS]), help="How the server speaks.  [default: auto]")
@click.option("--api-key-env", metavar="NAME", help="Environment variable that holds the API key.")
@click.option("--text-column", metavar="COL", help="Column to embed.  [default: text]")
@click.option("--id-column", metavar="COL", help="Column with the row's id.  [default: its position, from 0]")
@click.option("--unique-ids", is_flag=True, default=None, help="Refuse input in which an id stands twice.")
@click.option("--keep", multiple=True, metavar="COL", help="Column to copy into the output; repeatable.")
@click.option("--async/--sync", "use_async", default=None, help="Many requests at once, or one.  [default: async]")
@click.option(
    "--async-preset",
    type=click.Choice(["conservative", "recommended", "aggressive"]),
    help="Pin 4 / 8 / 16 requests in flight.",
)
@click.option("--concurrency", type=_AUTO, help="Requests in flight per endpoint.  [default: auto]")
@click.option("--batch-size", type=_AUTO, help="Texts in one request.  [default: auto]")
@click.option("--max-batch-size", type=_COUNT, help="Most texts in one request.  [default: 2048]")
@click.option("--actors", type=_AUTO, help="Size of the pool of Ray actors.  [default: auto]")
@click.option("--batch", type=_COUNT, help="Only the N-th data batch of the corpus.  [default: all]")
@click.option("--limit", type=_COUNT, help="Only the first N rows.  [default: all]")
@click.option(
    "--too-long",
    type=click.Choice(["truncate", "reject"]),
    help="What becomes of texts longer than the model takes.  [default: truncate]",
)
@click.option("--reuse", metavar="OLD_OUT", help="An earlier output: its vectors for texts that did not change.")
@click.option("--prompt", metavar="TEXT", help="What goes before each text, as the model wants it.")
@click.option("--prompt-name", metavar="NAME", help="One of the server's own prompts, by name.")
@click.option("--dimensions", type=_COUNT, help="Shorten the vectors to so many (Matryoshka).  [default: all]")
@click.option(
    "--normalize",
    type=click.Choice(["auto", "yes", "no"]),
    help="Length 1: as the server sends them, always, or as the model gives them.  [default: auto]",
)
@click.option(
    "--allow-mixed", is_flag=True, default=None, help="Take endpoints whose vectors differ into one output."
)
@click.option(
    "--text-files",
    type=click.Choice(["lines", "whole"]),
    help="In .txt files each line is a text, or the whole file is one.  [default: lines]",
)
@click.option("--sink", metavar="KIND", help="Kind of output: parquet or lance.  [default: parquet]")
@click.option("--dtype", type=click.Choice(["float32", "float16"]), help="Element type.  [default: float32]")
@click.option("--address", metavar="ADDRESS", help="Ray cluster.  [default: $RAY_ADDRESS, else a local Ray]")
@click.option(
    "--skip-bad-nodes", is_flag=True, default=None, help="Go on without nodes that do not see OUT or the input."
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="YAML settings.  [default: config/phase1_config.yaml if present]",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done; send only a probe.")
@click.option("--price-per-million-tokens", type=_PRICE, help="With --dry-run: what they cost there.")
@click.option("--price-per-gpu-hour", type=_PRICE, help="With --dry-run: what the GPU of an endpoint costs.")
@click.option("--status", "ask", is_flag=True, help="Say how the job that writes to OUT stands; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object on stdout.")
def run(
    config: Path | None,
    dry_run: bool,
    price_per_million_tokens: float | None,
    price_per_gpu_hour: float | None,
    ask: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Embed a corpus: files, folders, patterns or URLs in, a folder of Parquet vectors out."""
    settings = _settings(config, given)
    prices = price_per_million_tokens, price_per_gpu_hour
    if ask:
        from jobs.status import status

        found = status(settings)
        print(found.shown(as_json))
        sys.exit(found.exit_code)
    if dry_run:
        from jobs.dry_run import Prices
        from jobs.dry_run import dry_run as look

        print(look(settings, Prices(*prices)).shown(as_json))
        return
    if prices != (None, None):
        raise UserError("--price-per-million-tokens and --price-per-gpu-hour are for --dry-run; add that")
    from actors.output.sinks import SINKS
    from jobs.run import run as embed
    from jobs.summary import in_words

    with _stdout_for_us_alone() as stdout:
        outcome = embed(settings)
        place = SINKS[settings.output.sink].place(settings.output.path or "")
        said = outcome.summary.to_json() if as_json else in_words(outcome.summary, place)
        print(said, file=stdout)
    if outcome.exit_code == INTERRUPTED:
        print("interrupted: run the same command again to go on", file=sys.stderr)
    sys.exit(outcome.exit_code)


@cli.command()
@click.option("--endpoint", multiple=True, metavar="URL", help="Embedding server, with or without /v1; repeatable.")
@click.option("--model", metavar="NAME", help="Model name sent with each request.  [default: asked of the server]")
@click.option("--dialect", type=click.Choice(["auto", *DIALECTS]), help="How the server speaks.  [default: auto]")
@click.option("--api-key-env", metavar="NAME", help="Environment variable that holds the API key.")
@click.option("--config", type=click.Path(path_type=Path), help="YAML settings, for its endpoints.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def probe(config: Path | None, as_json: bool, **given: Any) -> None:
    """Say what a server is: dialect, model, dimension, limits, encodings, and how each of that is known."""
    from jobs.probe import in_words
    from jobs.probe import probe as look

    print(in_words(look(_settings(config, given)), as_json=as_json))


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option(
    "--model",
    default="wordllama",
    show_default=True,
    help="The model inside the wordllama package, or the path of a sentence-transformers model.",
)
@click.option(
    "--device", help="Where a sentence-transformers model runs: cpu, cuda, cuda:1 …  [default: its choice]"
)
@click.option(
    "--batching",
    type=click.Choice(["dynamic", "request"]),
    default="dynamic",
    show_default=True,
    help="What shares a batch of the model: texts of all requests that wait, or of one.",
)
@click.option(
    "--max-batch-tokens",
    type=_COUNT,
    help="Most tokens in a batch, padding included.  [default: what fills the device]",
)
@click.option("--api-key-env", metavar="NAME", help="Environment variable with a key that clients must send.")
def serve(**given: Any) -> None:
    """Serve an embedding model at an OpenAI-compatible endpoint, for local use."""
    from jobs.serve.command import serve as listen

    listen(**given)


@cli.command()
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True)
def demo(out: Path) -> None:
    """Embed a sample corpus of real text with a real model on this machine, then search it."""
    from jobs.demo.command import demo as show

    sys.exit(show(out))


@cli.command()
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@click.option(
    "--mode",
    type=click.Choice(["async", "sync", "both"]),
    default="async",
    show_default=True,
    help="The tuned pool, one request of 50 texts at a time, or both in turn on the same rows.",
)
@click.option("--concurrent", type=_AUTO, help="Pin the async mode's requests in flight.  [default: auto]")
@click.option(
    "--endpoint", multiple=True, metavar="URL", help="Server to test; repeatable.  [default: a local one]"
)
@click.option("--model", metavar="NAME", help="Model name sent with each request.  [default: asked of the server]")
@click.option("--dialect", type=click.Choice(["auto", *DIALECTS]), help="How the server speaks.  [default: auto]")
@click.option("--api-key-env", metavar="NAME", help="Environment variable that holds the API key.")
@click.option("--text-column", metavar="COL", help="Column to embed.  [default: text]")
@click.option("--limit", type=_COUNT, help="No more than so many rows a run.  [default: as many as time allows]")
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=120, show_default=True, help="About how long it takes."
)
@click.option(
    "--repeat", type=_COUNT, help="How often each mode is run.  [default: as often as time allows, but twice]"
)
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=Path("quick_test_results"),
    show_default=True,
    help="Folder for the results.",
)
@click.option("--address", metavar="ADDRESS", help="Ray cluster.  [default: $RAY_ADDRESS, else a local Ray]")
@click.option("--config", type=click.Path(path_type=Path), help="YAML settings, as of run.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as one JSON object on stdout.")
def bench(
    mode: str, seconds: float, repeat: int | None, results: Path, config: Path | None, as_json: bool, **given: Any
) -> None:
    """Measure how fast a server is fed, in one mode or both, with INPUT or a sample of real text."""
    from jobs.bench.command import MODES
    from jobs.bench.command import bench as measure

    with _stdout_for_us_alone() as stdout:
        outcome = measure(_settings(config, given), MODES[mode], seconds, results, repeat)
        print(outcome.to_json() if as_json else outcome.in_words(), file=stdout)
    sys.exit(outcome.exit_code)


@cli.command()
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), default=Path("quick_test_results"))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("comparison_report.html"),
    show_default=True,
    help="The page to write.",
)
@click.option("--json", "as_json", is_flag=True, help="Say what was read as one JSON object on stdout.")
def compare(folder: Path, out: Path, as_json: bool) -> None:
    """Draw all results that `bench` saved in DIR, quick_test_results by default, as one HTML page."""
    from jobs.compare import compare as draw

    print(draw(folder, out).shown(as_json))


@cli.command()
@click.argument("out", metavar="OUT")
@click.option(
    "--unique-ids", is_flag=True, help="An id that stands twice is a problem, also where the input has it."
)
@click.option(
    "--endpoint", multiple=True, metavar="URL", help="Embed a sample again there, and compare; repeatable."
)
@click.option("--sample", type=_COUNT, default=256, show_default=True, help="How many rows, spread over all parts.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another one draws other rows.")
@click.option("--input", "inputs", multiple=True, metavar="PATH", help="Where the input is, if it has moved.")
@click.option("--model", metavar="NAME", help="Model name sent with each request.  [default: that of the run]")
@click.option("--dialect", type=click.Choice(["auto", *DIALECTS]), help="How the server speaks.  [default: auto]")
@click.option("--api-key-env", metavar="NAME", help="Environment variable that holds the API key.")
def verify(out: str, unique_ids: bool, sample: int, seed: int, inputs: tuple[str, ...], **given: Any) -> None:
    """Check an output, folder or URL; exit code 0 only if it is whole, right, and what the endpoints give now."""
    from actors.output.store import as_place
    from jobs.verify import in_words
    from jobs.verify import verify as check

    place = as_place(out)
    found = check(place, unique_ids=unique_ids)
    print(in_words(found))
    ok = found.ok
    if given["endpoint"] and found.parts:
        from jobs import verify_vectors

        compared = verify_vectors.verify_vectors(place, _settings(None, given), inputs, sample, seed)
        print(verify_vectors.in_words(compared))
        ok = ok and not any(each.problems for each in compared)
    sys.exit(0 if ok else FAILED)


def _settings(config: Path | None, given: dict[str, Any]) -> Settings:
    """Those of the file, with what was given on the command line over them."""
    from jobs.settings import load_settings

    overrides = {_KEYS[name][0]: value for name, value in given.items() if value not in (None, ())}
    return load_settings(config, overrides, dict(_KEYS[name] for name in given))


@contextmanager
def _stdout_for_us_alone() -> Iterator[TextIO]:
    """The real stdout; whatever else is printed meanwhile, as Ray does of workers that died, goes to stderr."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w") as stdout:
        os.dup2(2, 1)
        try:
            yield stdout
        finally:
            sys.stdout.flush()
            stdout.flush()
            os.dup2(stdout.fileno(), 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, that of this process unless another is given.

    Whatever a person can mend is one line on stderr and an exit code.
    """
    try:
        sys.exit(cli.main(args=arguments, prog_name="rayembed", standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        print(f"rayembed: {error.format_message()}", file=sys.stderr)
        sys.exit(error.exit_code)
    except UserError as error:
        print(f"rayembed: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        print("rayembed: interrupted; run the same command again to go on", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()

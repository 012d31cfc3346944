"""`python -m jobs.serve`: the server without the rest of the command line, as `start_local_server` starts it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from threading import Thread

from actors.errors import UserError
from jobs.serve.backends import DEFAULT_MODEL
from jobs.serve.command import DEFAULT_BATCHING, DEFAULT_HOST, DEFAULT_PORT, serve


def main() -> int:
    """Serves until stopped; 0, or the exit code of a UserError after its one line on stderr."""
    arguments = _parser().parse_args()
    if arguments.until_stdin_closes:
        Thread(target=_stop_at_end_of_stdin, daemon=True).start()
    try:
        serve(
            arguments.host,
            arguments.port,
            arguments.model,
            arguments.device,
            arguments.api_key_env,
            arguments.batching,
            arguments.max_batch_tokens,
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m jobs.serve", description="An OpenAI-compatible embedding server.")
    parser.add_argument("--host", default=DEFAULT_HOST, help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0: any free one (default %(default)s)")
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help="wordllama, or the folder of a sentence-transformers model (default %(default)s)",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... for a sentence-transformers model")
    parser.add_argument(
        "--batching",
        choices=["dynamic", "request"],
        default=DEFAULT_BATCHING,
        help="what shares a batch of the model: texts of all requests, or of one (default %(default)s)",
    )
    parser.add_argument("--max-batch-tokens", type=int, help="most of these in a batch, padding included")
    parser.add_argument("--api-key-env", metavar="NAME", help="environment variable with the key clients must send")
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="end with the process at the other end of stdin"
    )
    return parser


def _stop_at_end_of_stdin() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())

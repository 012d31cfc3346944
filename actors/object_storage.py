"""Clients of object stores: Arrow's own for `s3://`, the fsspec package of every other scheme.

Credentials are those of the scheme's own tools: AWS_* variables and profiles, Google's application default
credentials, AZURE_STORAGE_*, the Hugging Face login. Nothing of them is ever part of a path, a message or a plan.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import fsspec
import pyarrow.fs as pafs
import tenacity

from actors.errors import UserError

T = TypeVar("T")

_PACKAGES = {
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "hf": "huggingface_hub",
    "http": "aiohttp",
    "https": "aiohttp",
}
_ATTEMPTS = 6
_PAUSE_S = 0.25  # before the second attempt at most; twice as much before each further one


def s3_client(bucket: str) -> pafs.S3FileSystem:
    """Arrow's client, which tries again by itself. Paths begin with the bucket."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if endpoint:
        region = region or "us-east-1"
    else:
        with suppress(OSError):  # not told to just anyone; then it has to be set
            region = pafs.resolve_s3_region(bucket)
    retries = pafs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS)
    return pafs.S3FileSystem(
        endpoint_override=endpoint, region=region, retry_strategy=retries, allow_delayed_open=True
    )


def fsspec_client(root: str) -> tuple[Any, str]:
    """The client for the URL `root`, and what it calls it. Raises UserError naming the package that is missing."""
    scheme = root.partition(":")[0]
    try:
        return fsspec.core.url_to_fs(root, use_listings_cache=False)  # type: ignore[no-any-return]
    except ImportError as error:
        package = _PACKAGES.get(scheme)
        remedy = f"pip install {package}" if package else str(error).split("\n", 1)[0]
        raise UserError(f"{scheme}:// needs a package that is not installed: {remedy}") from error
    except ValueError as error:
        if "protocol" not in str(error).lower():
            raise UserError(f"{root} cannot be opened: {error}") from error
        raise UserError(
            f"{scheme}:// is no kind of storage that is known here; use a path, or s3://, gs://, az://, hf://, https://"
        ) from error


def asked(call: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """The call's answer, asked for again for some seconds while the network fails; then raises OSError."""
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_not_exception_type((FileNotFoundError, PermissionError, ValueError)),
        stop=tenacity.stop_after_attempt(_ATTEMPTS),
        wait=tenacity.wait_random_exponential(multiplier=_PAUSE_S, max=8),
        reraise=True,
    )
    answer: T = retrying(translated, call, *arguments, **options)
    return answer


def translated(call: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """The call's answer; what a network library raises of its own becomes an OSError of one line."""
    try:
        return call(*arguments, **options)
    except FileNotFoundError as error:
        if error.__cause__ is None or isinstance(error.__cause__, LookupError):
            raise
        # fsspec says so of every failure to look at a web address
        raise _os_error(error.__cause__) from error
    except (OSError, ValueError):
        raise
    except Exception as error:
        raise _os_error(error) from error


def _os_error(error: BaseException) -> OSError:
    status = getattr(error, "status", None)
    if status in (404, 410):
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if status in (401, 403):
        return PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    said = f"{status} {getattr(error, 'message', '')}" if status else f"{type(error).__name__}: {error}"
    return OSError(said.split("\n", 1)[0])

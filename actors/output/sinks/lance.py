"""A Lance dataset: a part is a fragment of it, which readers see when it has been committed.

What lasts of a part is its fragment's file, and then a descriptor of it in `_fragments/`, named by the part and
that file. These names are the ledger. Whoever commits adds the fragments of the parts that the dataset does not
have, in the order of the plan, and says on which version of the dataset that builds: if somebody else was faster
nothing is added, and it is decided anew. So a part is there once, whoever is killed and however often it was
written. A fragment whose descriptor was never written is seen by nobody; Lance's own clean-up removes it.

`_fragments/_committed.json` names a version, for who goes on after the dataset was rewritten (compacted): what was
in any version since is in it. Once all of the plan is, nothing is added any more.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from actors.corpus.storage import scheme_of
from actors.errors import FAILED, UserError
from actors.output.folder import REJECTS_PROPERTY
from actors.output.local_store import sync_file
from actors.output.parts import PART_PROPERTY
from actors.output.store import Store, join, publish_text, read_bytes
from actors.output.vector_file import Vectors
from actors.queue.plan import PART_NAME, Plan

T = TypeVar("T")

DATASET = "vectors.lance"
LEDGER = "_fragments"

_MARK = f"{LEDGER}/_committed.json"
_EMPTY = "empty"  # in the place of a file's name, where a part has only rejects
_READS_AT_ONCE = 16
_ATTEMPTS = 10  # to commit, when others do at the same time


@dataclass(frozen=True, slots=True)
class _Mark:
    version: int = 1
    complete: bool = False


class LanceSink:
    """See `Sink`."""

    @staticmethod
    def place(out: str) -> str:
        return join(out, DATASET)

    @staticmethod
    def code(out: str) -> str:
        return f"import lance\ntable = lance.dataset({join(out, DATASET)!r}).to_table()"

    def __init__(self, store: Store) -> None:
        self._lance = _package()
        self._store = store
        self._url = join(store.root, DATASET)
        self._options = _options(self._url)

    def begin(self, schema: pa.Schema) -> None:
        dataset = self._dataset()
        if dataset is None:
            try:
                self._lance.write_dataset(
                    schema.empty_table(), self._url, mode="create", storage_options=self._options
                )
            except (ValueError, NotImplementedError, pa.ArrowException) as error:
                raise UserError(f"--sink lance: cannot hold these columns ({_line(error)})") from error
            return
        if not self._marked() and not self.names() and dataset.count_rows():
            raise UserError(f"{self._url} is there, and not of a run; choose another -o, or delete it")

    def write(
        self,
        name: str,
        schema: pa.Schema,
        ids: pa.Array,
        vectors: Vectors,
        keep: Sequence[pa.Array],
        properties: dict[str, str],
        writer: str,
        digests: bytes = b"",
    ) -> None:
        fragment, file = None, _EMPTY
        if len(ids):
            fragment = self._write(schema, ids, vectors, keep)
            file = fragment["files"][0]["path"].removesuffix(".lance")
        told = {"properties": {**properties, PART_PROPERTY: name}, "fragment": fragment}
        publish_text(self._store, f"{LEDGER}/{name.removesuffix('.parquet')}.{file}.json", json.dumps(told))

    def _write(
        self, schema: pa.Schema, ids: pa.Array, vectors: Vectors, keep: Sequence[pa.Array]
    ) -> dict[str, Any]:
        """The fragment of these rows, in Lance's words; its file lasts."""
        flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
        embedding = pa.FixedSizeListArray.from_arrays(flat, type=schema.field("embedding").type)
        table = pa.Table.from_arrays([ids, embedding, *keep], schema=schema)
        (fragment,) = _told(
            self._lance.fragment.write_fragments,
            *(table, self._url),
            mode="append",
            max_rows_per_file=len(table),
            storage_options=self._options,
        )
        if self._store.folder:
            for file in fragment.files:
                sync_file(self._store.folder / DATASET / "data" / file.path)
        said: dict[str, Any] = fragment.to_json()
        return said

    def names(self) -> set[str]:
        return set(self._ledger())

    def written_meanwhile(self, name: str) -> int | None:
        return None  # to look would be to list all; of two that wrote a part, one is committed

    def properties(self, name: str) -> None:
        return None  # not before one is committed

    def rejects(self, names: Sequence[str]) -> list[int | None]:
        ledger = self._ledger()
        with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
            return list(pool.map(lambda name: self._rejects_in(ledger.get(name, set())), names))

    def commit(self, plan: Plan) -> None:
        """Raises UserError when the dataset was rewritten by another program before it was complete."""
        for _ in range(_ATTEMPTS):
            mark = self._marked() or _Mark()
            if mark.complete:
                return
            dataset = self._dataset()
            if dataset is None:
                raise UserError(f"{self._url} is gone; delete the folder around it, or choose another -o", FAILED)
            ledger = self._ledger()
            there = self._seen_since(mark.version, dataset)
            new = [
                min(ledger[name])
                for name in sorted(ledger, key=_in_the_plan)
                if not any(_file_of(each) in there for each in ledger[name])
            ]
            fragments = list(self._fragments(each for each in new if not each.endswith(f".{_EMPTY}.json")))
            try:
                version = self._add(dataset, fragments) if fragments else dataset.version
            except self._lance.commit.CommitConflictError:
                continue
            kept = there <= _files(dataset).keys()  # else only the versions before tell what a rewritten one has
            after = _Mark(version if kept else mark.version, complete=len(ledger) >= plan.parts)
            if after != mark:
                publish_text(self._store, _MARK, json.dumps(asdict(after)))
            return
        raise OSError(f"{self._url} is committed to by others all the time")

    def _add(self, dataset: Any, fragments: list[Any]) -> int:
        """The version with `fragments` after those that are in `dataset`.

        Raises CommitConflictError when there is another version by now: of Lance's operations a merge alone does.
        """
        there = [each.metadata for each in dataset.get_fragments()]
        first = max((each.id for each in there), default=-1) + 1
        numbered = [replace(each, id=first + number) for number, each in enumerate(fragments)]
        operation = self._lance.LanceOperation.Merge([*there, *numbered], dataset.lance_schema)
        made = self._lance.LanceDataset.commit(
            self._url,
            operation,
            read_version=dataset.version,
            max_retries=0,
            storage_options=self._options,
            commit_message="rayembed",
        )
        return int(made.version)

    def visible(self) -> set[str]:
        return self.names()

    def open(self, name: str) -> LancePart:
        for written in sorted(self._snapshot_ledger.get(name, ())):
            said = self._descriptor(written)
            if said["fragment"] is None:
                return LancePart(said, None, self._snapshot_schema)
            if fragment := self._snapshot.get(_file_of(written)):
                return LancePart(said, fragment, self._snapshot_schema)
        raise OSError(f"{DATASET} does not have it; run the same command again, unless that was compacted")

    def amiss(self, names: set[str]) -> Iterator[str]:
        own = {_file_of(each) for name in names for each in self._snapshot_ledger.get(name, ())}
        others = [file for file in self._snapshot if file not in own]
        if others:
            rows = sum(self._snapshot[file].count_rows() for file in others)
            yield f"{rows:,} rows are of no part of this run; delete them from it, or verify before adding others"
        for name in sorted(names):
            files = [_file_of(each) for each in self._snapshot_ledger.get(name, ())]
            if sum(file in self._snapshot for file in files) > 1:
                yield f"{name} is in it twice"

    # what is there now

    def _dataset(self) -> Any | None:
        try:
            return self._lance.dataset(self._url, storage_options=self._options)
        except (ValueError, FileNotFoundError) as error:
            if "not found" in str(error):
                return None
            raise

    def _ledger(self) -> dict[str, set[str]]:
        """Descriptors by part: as a rule one."""
        found: dict[str, set[str]] = {}
        for written in self._store.names(LEDGER):
            name = f"{written.partition('.')[0]}.parquet"
            if written.endswith(".json") and PART_NAME.fullmatch(name):
                found.setdefault(name, set()).add(written)
        return found

    def _descriptor(self, written: str) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(read_bytes(self._store, f"{LEDGER}/{written}"))
        return said

    def _rejects_in(self, written: set[str]) -> int | None:
        return int(self._descriptor(min(written))["properties"][REJECTS_PROPERTY]) if written else None

    def _fragments(self, written: Iterable[str]) -> Iterator[Any]:
        """Of these descriptors."""
        with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
            for said in pool.map(self._descriptor, written):
                yield self._lance.FragmentMetadata.from_json(json.dumps(said["fragment"]))

    def _marked(self) -> _Mark | None:
        try:
            return _Mark(**json.loads(read_bytes(self._store, _MARK)))
        except FileNotFoundError:
            return None

    def _seen_since(self, version: int, dataset: Any) -> set[str]:
        """The files in any version of the dataset from `version` on."""
        files: set[str] = set()
        for number in range(version, dataset.version + 1):
            try:
                files |= set(_files(dataset.checkout_version(number)))
            except (ValueError, OSError) as error:
                raise UserError(
                    f"{self._url} was cleaned by another program before it was complete (version {number} is gone: "
                    f"{_line(error)}); choose another -o",
                    FAILED,
                ) from error
        return files

    # what was there at the first look

    @cached_property
    def _snapshot(self) -> dict[str, Any]:
        dataset = self._dataset()
        return {} if dataset is None else _files(dataset)

    @cached_property
    def _snapshot_schema(self) -> pa.Schema:
        dataset = self._dataset()
        return pa.schema([]) if dataset is None else dataset.schema

    @cached_property
    def _snapshot_ledger(self) -> dict[str, set[str]]:
        return self._ledger()


class LancePart:
    """See `StoredPart`. `fragment` None: it has no rows."""

    def __init__(self, said: dict[str, Any], fragment: Any | None, schema: pa.Schema) -> None:
        self._fragment = fragment
        self.schema = schema
        self.rows: int = fragment.count_rows() if fragment else 0
        self.properties = {key.encode(): value.encode() for key, value in said["properties"].items()}

    @property
    def written(self) -> pa.Schema:
        return self.schema

    def read(self, columns: list[str] | None = None) -> pa.Table:
        if self._fragment is None:
            return self.schema.empty_table().select(columns or self.schema.names)
        return self._fragment.to_table(columns=columns)

    def close(self) -> None:
        return


def _package() -> Any:
    try:
        import lance
        import lance.commit
        import lance.fragment
    except ImportError as error:
        raise UserError(
            "--sink lance needs a package that is not installed: pip install 'rayembed[lance]'"
        ) from error
    # Ray forks to start its own programs, which do not go on with what is here
    warnings.filterwarnings("ignore", message="lance is not fork-safe")
    return lance


def _options(url: str) -> dict[str, str] | None:
    """What Lance does not find in the environment by itself."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if scheme_of(url) != "s3" or not endpoint:
        return None
    return {"aws_endpoint": endpoint, "allow_http": str(endpoint.startswith("http:")).lower()}


def _file_of(written: str) -> str:
    """The fragment's file that a descriptor names."""
    return f"{written.split('.')[1]}.lance"


def _files(dataset: Any) -> dict[str, Any]:
    """Its fragments by their file."""
    return {file.path: each for each in dataset.get_fragments() for file in each.data_files()}


def _in_the_plan(name: str) -> tuple[int, ...]:
    """Sorts names of parts as the plan does."""
    return tuple(map(int, name.removesuffix(".parquet").split("-")[1:]))


def _told(call: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """The call's result; what Lance raises becomes an OSError of one line."""
    try:
        return call(*arguments, **options)
    except (ValueError, RuntimeError, OSError, pa.ArrowException) as error:
        raise OSError(_line(error)) from error


def _line(error: BaseException) -> str:
    """Without the place in Lance's source."""
    return str(error).split("\n", 1)[0].partition(", /")[0] or type(error).__name__

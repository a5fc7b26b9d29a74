"""A folder of the lake: on a disk, or below a prefix of an S3 bucket."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

if TYPE_CHECKING:
    from botocore.client import BaseClient

RETRIES = {"max_retries": "3", "retry_timeout": "15s", "timeout": "30s", "connect_timeout": "3s"}
"""Until a request to the object store fails."""
IO_THREADS = 32
"""Requests to S3 at once while files are read; they wait more than they compute."""
PAGE = 1000
"""Objects that S3 lists and deletes at once."""


@dataclass(frozen=True, slots=True)
class LakeLocation:
    """A folder.

    Attributes:
        uri: As Delta Lake and other readers name it.
        path: The same on `filesystem`.
        filesystem: pyarrow's.
        options: What Delta Lake must know of the object store; empty on a disk.
    """

    uri: str
    path: str
    filesystem: pafs.FileSystem
    options: dict[str, str]

    @classmethod
    def of(cls, lake: str) -> "LakeLocation":
        """The lake itself, from its configuration (`StoreConfig.lake`)."""
        return _location(lake)

    def __truediv__(self, name: str) -> "LakeLocation":
        return LakeLocation(
            f"{self.uri}/{name}", f"{self.path}/{name}", self.filesystem, self.options
        )

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def folders(self) -> list[str]:
        """The names of the folders in it, sorted."""
        found = self.filesystem.get_file_info(pafs.FileSelector(self.path, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == pafs.FileType.Directory)

    def files(self) -> list[str]:
        """The names of the files in it, sorted."""
        found = self.filesystem.get_file_info(pafs.FileSelector(self.path, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == pafs.FileType.File)

    def create(self, data: bytes) -> bool:
        """Write a whole file here, unless there is one; return whether it did."""
        if self.is_local:
            return _create_file(self.path, data)
        from botocore.exceptions import ClientError

        bucket, _, key = self.path.partition("/")
        with _os_errors():
            try:
                _client(self).put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (409, 412):
                    raise
                return False
        return True

    def read(self) -> bytes | None:
        """The bytes of the file here; None where there is none."""
        try:
            with self.filesystem.open_input_stream(self.path) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def remove(self) -> None:
        """Delete the file here, if there is one."""
        with suppress(FileNotFoundError):
            self.filesystem.delete_file(self.path)

    def size(self) -> int:
        """The bytes of the files in it."""
        everything = pafs.FileSelector(self.path, recursive=True, allow_not_found=True)
        return sum(info.size or 0 for info in self.filesystem.get_file_info(everything))

    def exists(self) -> bool:
        """Whether anything is in it, on S3 also former versions and begun uploads."""
        if self.is_local:
            return os.path.isdir(self.path) and bool(os.listdir(self.path))
        with _os_errors():
            client = _client(self)
            return any(_versions(client, *self._bucket)) or any(_uploads(client, *self._bucket))

    def drop(self) -> int:
        """Delete it with everything in it; return how many Parquet files there were.

        On S3 also the objects' former versions and the uploads that were begun.
        """
        if self.is_local:
            files = sum(
                name.endswith(".parquet") for _, _, names in os.walk(self.path) for name in names
            )
            shutil.rmtree(self.path, ignore_errors=not os.path.exists(self.path))
            return files
        with _os_errors():
            return _drop_prefix(_client(self), *self._bucket)

    @property
    def _bucket(self) -> tuple[str, str]:
        bucket, _, prefix = self.path.partition("/")
        return bucket, f"{prefix}/"


@lru_cache(maxsize=8)
def _location(lake: str) -> LakeLocation:
    if "://" not in lake:
        path = os.path.abspath(lake)
        return LakeLocation(Path(path).as_uri(), path, pafs.LocalFileSystem(), {})
    parts = urlsplit(lake)
    query = dict(parse_qsl(parts.query))
    region, endpoint = query.get("region", ""), query.get("endpoint_override", "")
    if endpoint and "://" not in endpoint:
        endpoint = f"{query.get('scheme', 'https')}://{endpoint}"
    if not region:
        region = "us-east-1" if endpoint else pafs.resolve_s3_region(parts.netloc)
    pa.set_io_thread_count(max(pa.io_thread_count(), IO_THREADS))
    filesystem = pafs.S3FileSystem(
        region=region,
        endpoint_override=endpoint or None,
        connect_timeout=3,
        request_timeout=30,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=3),
    )
    options = {"AWS_REGION": region, **RETRIES}
    if endpoint:
        options["AWS_ENDPOINT_URL"] = endpoint
        options["AWS_ALLOW_HTTP"] = str(endpoint.startswith("http://")).lower()
    path = f"{parts.netloc}{parts.path}".rstrip("/")
    return LakeLocation(f"s3://{path}", path, filesystem, options)


def _create_file(path: str, data: bytes) -> bool:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=os.path.dirname(path), prefix=".") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        try:
            os.link(file.name, path)
        except FileExistsError:
            return False
    return True


def _client(location: LakeLocation) -> "BaseClient":
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        region_name=location.options["AWS_REGION"],
        endpoint_url=location.options.get("AWS_ENDPOINT_URL"),
        config=Config(connect_timeout=3, read_timeout=30, retries={"total_max_attempts": 4}),
    )


@contextmanager
def _os_errors() -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise OSError(str(error)) from error


def _drop_prefix(client: Any, bucket: str, prefix: str) -> int:
    files = 0
    versions = _versions(client, bucket, prefix)
    while page := list(islice(versions, PAGE)):
        files += sum(version["Key"].endswith(".parquet") for version in page)
        _delete(client, bucket, page)
    for upload in _uploads(client, bucket, prefix):
        client.abort_multipart_upload(Bucket=bucket, **upload)
    return files


def _versions(client: Any, bucket: str, prefix: str) -> Iterator[dict[str, str]]:
    """The versions and delete markers of objects, as `delete_objects` takes them."""
    pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        for version in [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]:
            yield {"Key": version["Key"], "VersionId": version["VersionId"]}


def _delete(client: Any, bucket: str, versions: list[dict[str, str]]) -> None:
    done = client.delete_objects(Bucket=bucket, Delete={"Objects": versions, "Quiet": True})
    for error in done.get("Errors", ()):
        raise OSError(f"S3 deletes not all objects: {error.get('Code')} {error.get('Message')}")


def _uploads(client: Any, bucket: str, prefix: str) -> Iterator[dict[str, str]]:
    """Uploads in parts that were begun, as `abort_multipart_upload` takes them."""
    pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        for upload in page.get("Uploads", ()):
            yield {"Key": upload["Key"], "UploadId": upload["UploadId"]}

"""An S3 of its own for tests: moto's server, in a process of its own."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "moto",
    "AWS_SECRET_ACCESS_KEY": "moto-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass
class MotoServer:
    """Its `lake()` is a new bucket; the environment must have `CREDENTIALS`."""

    url: str
    process: subprocess.Popen[bytes]
    buckets: int = 0

    @classmethod
    def start(cls, host: str = "127.0.0.1") -> "MotoServer":
        with socket.socket() as free:
            free.bind((host, 0))
            port = free.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", host, "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(300):
            try:
                socket.create_connection((host, port), 1).close()
                return cls(f"http://{host}:{port}", process)
            except OSError:
                time.sleep(0.1)
        process.kill()
        raise RuntimeError("moto's server did not start")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def client(self) -> Any:
        import boto3

        return boto3.client("s3", endpoint_url=self.url, region_name="eu-central-1")

    def lake(self, versioned: bool = False) -> str:
        """The URI of a lake in a new bucket."""
        self.buckets += 1
        name = f"lake-{os.getpid()}-{self.buckets}"
        client = self.client()
        client.create_bucket(
            Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return f"s3://{name}/shoal?region=eu-central-1&endpoint_override={self.url}"

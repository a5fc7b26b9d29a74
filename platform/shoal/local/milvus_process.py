"""The embedded vector store: the process that runs `shoal.local.milvus.server`."""

import base64
import sys
from typing import ClassVar

from shoal.contract.errors import Unavailable

from .private_files import open_private
from .server_process import ServerProcess


class MilvusProcess(ServerProcess):
    """Milvus Lite on loopback, with a token."""

    name, executable = "milvus", "shoal.local.milvus.server"
    # A query is one matrix-vector product, which is over before threads are awake.
    environment: ClassVar[dict[str, str]] = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

    def command(self) -> list[str]:
        token_file = self.folder / "token"
        with open_private(token_file, "w") as file:
            file.write(self._token)
        options = {
            "--data-dir": str(self.folder / "data"),
            "--port": str(self.endpoint.port),
            "--token-file": str(token_file),
        }
        return [sys.executable, "-m", self.executable, *(w for o in options.items() for w in o)]

    def ping(self) -> None:
        import grpc

        token = base64.b64encode(self._token.encode()).decode()
        with grpc.insecure_channel(f"127.0.0.1:{self.endpoint.port}") as channel:
            get_version = channel.unary_unary("/milvus.proto.milvus.MilvusService/GetVersion")
            try:
                get_version(b"", timeout=3, metadata=[("authorization", token)])
            except grpc.RpcError as error:
                raise Unavailable("does not answer yet") from error

    @property
    def _token(self) -> str:
        return f"shoal:{self.endpoint.password}"

    def store_settings(self) -> dict[str, str]:
        return {"vectors": f"http://127.0.0.1:{self.endpoint.port}", "token": self._token}

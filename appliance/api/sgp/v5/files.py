"""Dialect v5: files of an account, of any kind. Only their tags can be changed."""

from __future__ import annotations

from typing import Any

from litestar import Controller, Request, delete, get, patch, post
from litestar.params import JSONBody
from litestar.response import File as FileResponse
from msgspec import UNSET

from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.api.idempotency import CREATES
from appliance.api.sgp import files
from appliance.api.sgp.cursors import CURSOR, TheCursor
from appliance.domain.errors import Unsupported
from appliance.wire.sgp_files import File, FileDeleted, FilePage, FileUpdate


class FileController(Controller):
    """Files."""

    path = "/v5/files"
    tags = ("v5 files",)
    dependencies = CURSOR

    @post(operation_id="v5CreateFile", status_code=200, opt=CREATES)
    async def create_file(self, request: Request[Any, Any, Any], node: TheNode, caller: TheCaller) -> File:
        """Keep a file: a multipart form with `file`."""
        return await files.create(request, node, caller)

    @get(operation_id="v5ListFiles")
    async def list_files(
        self, node: TheNode, caller: TheCaller, cursor: TheCursor, filename: files.Filename = None
    ) -> FilePage:
        """A part of the account's files, newest first unless another order is asked for."""
        return await files.page(node, caller, cursor, filename)

    @post("/cloud_imports", operation_id="v5ImportCloudFiles", status_code=200)
    async def import_from_cloud(self, caller: TheCaller) -> None:
        """Refused, with how files come here."""
        raise Unsupported(
            "cloud_imports is not served: this machine reaches no cloud storage; fetch the files where there is a "
            "network and upload each with POST /v5/files"
        )

    @get("/{file_id:str}", operation_id="v5GetFile")
    async def get_file(self, node: TheNode, caller: TheCaller, file_id: PathId) -> File:
        """One file, without its bytes."""
        return await files.one(node, caller, file_id)

    @patch("/{file_id:str}", operation_id="v5UpdateFile")
    async def update_file(self, node: TheNode, caller: TheCaller, file_id: PathId, data: JSONBody[FileUpdate]) -> File:
        """Give a file other tags in place of those it has."""
        if data.tags is UNSET:
            return await files.one(node, caller, file_id)
        return await files.view(node, await node.files.tag(caller, file_id, data.tags))

    @get("/{file_id:str}/content", operation_id="v5GetFileContent")
    async def get_file_content(self, node: TheNode, caller: TheCaller, file_id: PathId) -> FileResponse:
        """Its bytes."""
        return await files.content(node, caller, file_id)

    @delete("/{file_id:str}", operation_id="v5DeleteFile", status_code=200)
    async def delete_file(self, node: TheNode, caller: TheCaller, file_id: PathId) -> FileDeleted:
        """Delete a file that no unfinished batch reads."""
        return await files.delete(node, caller, file_id)

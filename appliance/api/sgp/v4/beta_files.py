"""Dialect v4, beta: files. The official client sends a file as a text without a name."""

from __future__ import annotations

from typing import Any

from litestar import Controller, Request, delete, get, post
from litestar.response import File as FileResponse

from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.api.idempotency import CREATES
from appliance.api.sgp import files
from appliance.api.sgp.cursors import CURSOR, TheCursor
from appliance.api.sgp.v4.pages import AccountFilter
from appliance.wire.sgp_files import File, FileDeleted, FilePage


class BetaFileController(Controller):
    """Files of an account."""

    path = "/v4/beta/files"
    tags = ("v4 beta",)
    dependencies = CURSOR

    @post(operation_id="v4BetaCreateFile", status_code=200, opt=CREATES)
    async def create_file(self, request: Request[Any, Any, Any], node: TheNode, caller: TheCaller) -> File:
        """Keep a file: a multipart form with `file`, as a text or as a file with its name."""
        return await files.create(request, node, caller)

    @get(operation_id="v4BetaListFiles")
    async def list_files(
        self,
        node: TheNode,
        caller: TheCaller,
        cursor: TheCursor,
        account_id: AccountFilter = None,
        filename: files.Filename = None,
    ) -> FilePage:
        """A part of the account's files, newest first unless another order is asked for."""
        return await files.page(node, node.keys.select_account(caller, account_id), cursor, filename)

    @get("/{file_id:str}", operation_id="v4BetaGetFile")
    async def get_file(self, node: TheNode, caller: TheCaller, file_id: PathId) -> File:
        """One file, without its bytes."""
        return await files.one(node, caller, file_id)

    @get("/{file_id:str}/content", operation_id="v4BetaGetFileContent")
    async def get_file_content(self, node: TheNode, caller: TheCaller, file_id: PathId) -> FileResponse:
        """Its bytes."""
        return await files.content(node, caller, file_id)

    @delete("/{file_id:str}", operation_id="v4BetaDeleteFile", status_code=200)
    async def delete_file(self, node: TheNode, caller: TheCaller, file_id: PathId) -> FileDeleted:
        """Delete a file that no unfinished batch reads."""
        return await files.delete(node, caller, file_id)

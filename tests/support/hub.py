"""A model hub on this machine: it answers what huggingface_hub asks, downloads and commits."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

__all__ = ["TOKEN", "Hub", "Repository", "Request", "hub_server", "use_hub"]

TOKEN = "hf_standin_token_of_a_user"  # the only one that is known
OWNER = "shop"  # whose token it is
LARGE = (
    ".safetensors",
    ".bin",
    ".onnx",
    ".pt",
    ".parquet",
    ".arrow",
    ".tar",
)  # kept apart, as LFS keeps them
FOREVER = re.compile(r"[0-9a-f]{40}")


@dataclass
class Repository:
    """A repository: its files at each commit."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)  # branch or tag → commit
    messages: dict[str, str] = field(default_factory=dict)  # commit → what it says
    gated: bool = False
    private: bool = False

    def at(self, revision: str) -> str | None:
        """Return the commit of a revision."""
        commit = self.refs.get(revision, revision)
        return commit if commit in self.commits else None

    @property
    def files(self) -> dict[str, bytes]:
        """Return the files of the main branch."""
        return self.commits[self.refs["main"]]


@dataclass(frozen=True)
class Request:
    """What was asked."""

    server: str  # hub, or the host of large files
    method: str
    path: str
    token: str  # of the header; "" for none
    range: str


class Hub:
    """The state of the stand-in."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.renamed: dict[str, str] = {}  # old name → new name
        self.requests: list[Request] = []
        self.failing: int | None = None  # a status that every answer has
        self.cut: dict[str, int] = {}  # file → bytes after which its next answer breaks off
        self.url = ""
        self.storage_url = ""  # of large files, another host to a client
        self.objects: dict[str, bytes] = {}  # sha256 → a large file
        self._lock = threading.Lock()

    def add(self, name: str, files: Mapping[str, bytes] | Path, *, revision: str = "main") -> str:
        """Commit files, in place of all that were there; return the commit."""
        if isinstance(files, Path):
            paths = [path for path in sorted(files.rglob("*")) if path.is_file()]
            files = {path.relative_to(files).as_posix(): path.read_bytes() for path in paths}
        with self._lock:
            repository = self.repositories.setdefault(name, Repository())
            return self._commit(name, repository, dict(files), revision)

    def _commit(
        self, name: str, repository: Repository, files: dict[str, bytes], revision: str
    ) -> str:
        text = name + str(len(repository.commits)) + repr(sorted(files))
        commit = hashlib.sha1(text.encode()).hexdigest()
        repository.commits[commit] = files
        repository.refs[revision] = commit
        for content in files.values():
            self.objects[hashlib.sha256(content).hexdigest()] = content
        return commit

    def asked(self, part: str, method: str = "") -> list[Request]:
        """Return the requests whose path has this part."""
        return [one for one in self.requests if part in one.path and method in one.method]


def _etag(content: bytes, large: bool) -> str:
    if large:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _RefusalError(Exception):
    def __init__(self, status: int, code: str, message: str = "", body: bytes = b"") -> None:
        super().__init__(code)
        self.body = body
        self.status = status
        self.code = code
        self.message = message


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub
    place: str  # hub, or storage

    def log_message(self, *_values: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        self.hub.requests.append(
            Request(self.place, self.command, self.path, token, self.headers.get("range", ""))
        )
        length = int(self.headers.get("content-length") or 0)
        self.body = self.rfile.read(length)
        if self.hub.failing is not None:
            self._send(self.hub.failing, b"out of order")
            return
        path = unquote(urlsplit(self.path).path)
        try:
            if self.place == "storage":
                self._storage(path)
            elif token and token != TOKEN:
                raise _RefusalError(401, "", "Invalid credentials in Authorization header")
            else:
                self._hub(path, bool(token))
        except _RefusalError as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
            self._send(
                refusal.status, refusal.body, {name: text for name, text in headers.items() if text}
            )

    # --- the hub

    def _hub(self, path: str, known: bool) -> None:
        parts = path.strip("/").split("/")
        if path == "/api/whoami-v2":
            self._json(
                {"name": OWNER, "type": "user", "orgs": [], "auth": {"type": "access_token"}}
            )
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self._create(known)
        elif parts[:2] == ["api", "models"] and len(parts) >= 4:
            self._api("/".join(parts[2:4]), parts[4:], known)
        elif (
            parts[:2] == ["api", "datasets"] and len(parts) >= 4
        ):  # a repository datasets/OWNER/NAME
            self._api("/".join(parts[1:4]), parts[4:], known)
        elif parts[0] == "datasets" and len(parts) >= 6 and parts[3] == "resolve":
            self._resolve("/".join(parts[:3]), parts[4], "/".join(parts[5:]), known)
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._batch()
        elif len(parts) >= 5 and parts[2] == "resolve":
            self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]), known)
        else:
            raise _RefusalError(404, "")

    def _create(self, known: bool) -> None:
        if not known:
            raise _RefusalError(401, "", "Invalid username or password.")
        about = json.loads(self.body)
        name = f"{about.get('organization') or OWNER}/{about['name']}"
        if not name.startswith(f"{OWNER}/"):
            raise _RefusalError(
                403, "", "You don't have the rights to create a model under the namespace"
            )
        if name in self.hub.repositories:
            body = json.dumps({"url": f"{self.hub.url}/{name}"}).encode()
            raise _RefusalError(409, "", "You already created this model repo", body)
        repository = self.hub.repositories[name] = Repository()
        repository.private = about.get("visibility") == "private" or about.get("private") is True
        self.hub._commit(name, repository, {".gitattributes": b"*.bin filter=lfs\n"}, "main")
        self._json({"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def _repository(self, name: str, known: bool) -> Repository:
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not known):
            raise _RefusalError(404 if known else 401, "RepoNotFound", "Repository not found")
        return repository

    def _commit_of(self, repository: Repository, revision: str) -> str:
        commit = repository.at(revision)
        if commit is None:
            raise _RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def _redirected(self, name: str) -> bool:
        """Send to where a renamed repository is now, as the hub does."""
        new = self.hub.renamed.get(name)
        if new is None:
            return False
        self._send(307, b"", {"Location": self.path.replace(name, new, 1)})
        return True

    def _api(self, name: str, rest: list[str], known: bool) -> None:
        if self._redirected(name):
            return
        repository = self._repository(name, known)
        if not rest or rest[0] == "revision":
            self._about(name, repository, "/".join(rest[1:]) or "main")
        elif rest[0] == "tree":
            self._tree(repository, rest[1])
        elif rest[0] == "preupload":
            self._preupload()
        elif rest[0] == "branch":
            repository.refs.setdefault("/".join(rest[1:]), repository.refs["main"])
            self._json({})
        elif rest[0] == "commit":
            self._take_commit(name, repository, "/".join(rest[1:]))
        else:
            raise _RefusalError(404, "")

    def _about(self, name: str, repository: Repository, revision: str) -> None:
        commit = self._commit_of(repository, revision)
        siblings = []
        for path, content in repository.commits[commit].items():
            large = path.endswith(LARGE)
            about: dict[str, Any] = {"rfilename": path, "size": len(content)}
            about["blobId"] = _etag(content, large=False)
            if large:
                about["lfs"] = {"sha256": _etag(content, True), "size": len(content)}
                about["lfs"]["pointerSize"] = 134
            siblings.append(about)
        self._json(
            {
                "_id": "1",
                "id": name.removeprefix("datasets/"),
                "modelId": name,
                "sha": commit,
                "private": repository.private,
                "gated": "auto" if repository.gated else False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "siblings": siblings,
                "createdAt": "2022-03-02T23:29:05.000Z",
            }
        )

    def _tree(self, repository: Repository, revision: str) -> None:
        commit = self._commit_of(repository, revision)
        entries = []
        for path, content in repository.commits[commit].items():
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content)}
            entry["oid"] = _etag(content, large=False)
            if path.endswith(LARGE):
                entry["lfs"] = {"oid": _etag(content, True), "size": len(content)}
                entry["lfs"]["pointerSize"] = 134
            entries.append(entry)
        self._json(entries)

    def _resolve(self, name: str, revision: str, file: str, known: bool) -> None:
        if self._redirected(name):
            return
        repository = self._repository(name, known)
        commit = self._commit_of(repository, revision)
        if repository.gated and not known:
            raise _RefusalError(401, "GatedRepo", f"Access to model {name} is restricted.")
        content = repository.commits[commit].get(file)
        headers = {"X-Repo-Commit": commit}
        if content is None:
            self._send(404, b"", headers | {"X-Error-Code": "EntryNotFound"})
            return
        large = file.endswith(LARGE)
        etag = _etag(content, large)
        if not large:
            self._content(file, content, headers | {"ETag": f'"{etag}"'})
            return
        headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
        headers |= {"Location": f"{self.hub.storage_url}/{etag}/{file}?Signature=secret"}
        self._send(302, b"", headers)

    # --- commits

    def _preupload(self) -> None:
        files = json.loads(self.body)["files"]
        answer = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in files
        ]
        self._json({"files": answer})

    def _batch(self) -> None:
        asked = json.loads(self.body)
        objects = []
        for one in asked["objects"]:
            answer = {"oid": one["oid"], "size": one["size"], "authenticated": True}
            if one["oid"] not in self.hub.objects:
                href = f"{self.hub.storage_url}/{one['oid']}"
                answer["actions"] = {"upload": {"href": href, "header": {}}}
            objects.append(answer)
        answer = {"transfer": "basic", "objects": objects}
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _take_commit(self, name: str, repository: Repository, revision: str) -> None:
        if revision not in repository.refs:
            raise _RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files = dict(repository.commits[repository.refs[revision]])
        message = ""
        for line in self.body.decode().splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        commit = self.hub._commit(name, repository, files, revision)
        repository.messages[commit] = message
        url = f"{self.hub.url}/{name}/commit/{commit}"
        self._json({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    # --- large files

    def _storage(self, path: str) -> None:
        parts = path.strip("/").split("/")
        if self.command == "PUT":
            if hashlib.sha256(self.body).hexdigest() != parts[0]:
                raise _RefusalError(400, "")
            self.hub.objects[parts[0]] = self.body
            self._send(200, b"", {"ETag": f'"{parts[0]}"'})
            return
        content = self.hub.objects.get(parts[0])
        if content is None:
            raise _RefusalError(404, "")
        headers = {"Content-Disposition": f'inline; filename="{parts[-1]}";'}
        self._content(parts[-1], content, headers | {"ETag": f'"{parts[0]}"'})

    # --- answers

    def _content(self, file: str, content: bytes, headers: Mapping[str, str]) -> None:
        """Send a file, or the range of it that is asked for; cut short where the test says so."""
        start = 0
        if found := re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", "")):
            start = int(found[1])
        part = content[start:]
        more = {"Accept-Ranges": "bytes"}
        if start:
            more["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut = None if self.command == "HEAD" else self.hub.cut.pop(file, None)
        self._send(206 if start else 200, part, {**headers, **more}, cut=cut)

    def _json(self, data: Any) -> None:
        self._send(200, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def _send(
        self,
        status: int,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        cut: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.close_connection = True


@contextmanager
def hub_server() -> Iterator[Hub]:
    """Run a hub, and the host of its large files, until the block ends."""
    hub = Hub()
    servers = []
    for place in ("hub", "storage"):
        handler = type("Handler", (_Handler,), {"hub": hub, "place": place})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
    hub.url, hub.storage_url = (f"http://127.0.0.1:{one.server_address[1]}" for one in servers)
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def use_hub(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch, *, token: str | None = None
) -> None:
    """Let huggingface_hub in this process ask the stand-in, with a cache of the test's own."""
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(cache / "tokens"))
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    for module in (constants, file_download):  # which of them is read depends on the version
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)

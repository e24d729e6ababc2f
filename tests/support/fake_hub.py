"""A hub on this machine: the part of its HTTP interface that its client uses, with its refusals."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


EFFBERT = "import sys; from effbert.runtime.commands import main; main(sys.argv[1:])"


class Done(NamedTuple):
    code: int
    out: str
    error: str


Run = Callable[..., Done]


@dataclass
class Repository:
    """Commits by hash, in their order, and the names that point to them."""

    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    message: str = ""

    def commit(self, files: Files, ref: str = "main") -> str:
        sha = hashlib.sha1(repr((sorted(files.items()), len(self.commits))).encode()).hexdigest()
        self.commits[sha] = files
        self.refs[ref] = sha
        return sha


@dataclass
class Hub:
    """What the server holds, what it was asked, and how it fails."""

    address: str = ""
    cdn: str = ""  # another host: the client follows redirects to it only for content
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)  # large files by sha256
    cut_after: int | None = None  # bytes after which a download breaks off
    cuts_left: int = 0

    def add(self, name: str, folder: Path, ref: str = "main") -> str:
        """Commit the files of a folder."""
        files = {file.name: file.read_bytes() for file in folder.iterdir()}
        return self.repositories.setdefault(name, Repository()).commit(files, ref)

    def environment(self, cache: Path, **more: str) -> dict[str, str]:
        """The variables of a process that uses this hub."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        own = {"HF_ENDPOINT": self.address, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}
        return kept | own | more


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve an empty hub on a free port."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    hub.cdn = f"http://localhost:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def runner(hub: Hub, folder: Path) -> Run:
    """Gives what runs `effbert`, or other code, in a process of its own that uses the hub."""

    def run(*words: object, code: str = EFFBERT, **environment: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=100,
            env=hub.environment(folder / "cache", **environment),
            cwd=folder,
        )
        assert "Traceback" not in done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    return run


def sentence(done: Done) -> str:
    assert done.code == 2, done
    *usage, last = done.error.splitlines()
    assert not [line for line in usage if not line.startswith("Usage")], done.error
    assert last.startswith("Error: ")
    assert last.endswith(".")
    return last.removeprefix("Error: ")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        path = unquote(urlsplit(self.path).path)
        if found := re.fullmatch(r"/cdn/(\w+)", path):
            self._send_file(found[1])
        elif found := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)(?:/revision/(.+))?", path):
            if files := self._files(found[1], found[2] or "main"):
                siblings = [{"rfilename": name} for name in files[1]]
                self._json({"id": found[1], "sha": files[0], "siblings": siblings})
        elif found := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/tree/([^/]+)/?.*", path):
            if files := self._files(found[1], found[2]):
                self._json([self._entry(*item) for item in files[1].items()])
        elif found := re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(*found.groups())
        else:
            self._refuse(404, "")

    def do_POST(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        if not self.headers.get("Authorization"):
            self._refuse(401, "")
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif found := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/branch/(.+)", path):
            repository = self.hub.repositories[found[1]]
            repository.refs.setdefault(found[2], repository.refs.get("main", ""))
            self._json({})
        elif "/preupload/" in path:
            asked = json.loads(body)["files"]
            large = [{"path": each["path"], "uploadMode": self._mode(each)} for each in asked]
            self._json({"files": [each | {"shouldIgnore": False, "oid": None} for each in large]})
        elif path.endswith("/info/lfs/objects/batch"):
            self._batch(json.loads(body))
        elif found := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/commit/(.+)", path):
            self._commit(found[1], found[2], body)
        else:
            self._json({})

    def do_PUT(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.hub.stored[self.path.rpartition("/")[2]] = data
        self._json({})

    def _files(self, name: str, revision: str) -> tuple[str, Files] | None:
        repository = self.hub.repositories.get(name)
        known = bool(self.headers.get("Authorization"))
        if repository is None or (repository.private and not known):
            self._refuse(404 if known else 401, "RepoNotFound")
        elif (sha := repository.refs.get(revision, revision)) not in repository.commits:
            self._refuse(404, "RevisionNotFound")
        elif repository.gated and not known and "/resolve/" in self.path:
            self._refuse(401, "GatedRepo")
        else:
            return sha, repository.commits[sha]
        return None

    def _entry(self, name: str, data: bytes) -> dict[str, Any]:
        return {"type": "file", "path": name, "size": len(data), "oid": _key(data)[:40]}

    def _resolve(self, name: str, revision: str, file: str) -> None:
        found = self._files(name, revision)
        if found is None:
            return
        sha, files = found
        if file not in files:
            self._refuse(404, "EntryNotFound")
            return
        key = _key(files[file])
        self.hub.stored[key] = files[file]
        self.send_response(302)
        headers = {"X-Repo-Commit": sha, "X-Linked-Etag": f'"{key}"', "ETag": f'"{key}"'}
        headers |= {"X-Linked-Size": str(len(files[file])), "Content-Length": "0"}
        for header, value in (headers | {"Location": f"{self.hub.cdn}/cdn/{key}"}).items():
            self.send_header(header, value)
        self.end_headers()

    def _send_file(self, key: str) -> None:
        data = self.hub.stored[key]
        start = int((re.findall(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0])[0])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("ETag", f'"{key}"')
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = self.hub.cut_after
        if cut is not None and self.hub.cuts_left > 0 and len(data) > cut:
            self.hub.cuts_left -= 1
            self.wfile.write(data[start : start + cut])
            self.close_connection = True
            return
        self.wfile.write(data[start:])

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if name in self.hub.repositories:
            self._json({"error": "it exists", "url": f"{self.hub.address}/{name}"}, 409)
            return
        private = asked.get("private") or asked.get("visibility") == "private"
        self.hub.repositories[name] = Repository(private=bool(private))
        self.hub.repositories[name].commit({".gitattributes": b"*.onnx filter=lfs\n"})
        self._json({"url": f"{self.hub.address}/{name}", "name": name})

    def _mode(self, asked: dict[str, Any]) -> str:
        return "lfs" if asked["path"].endswith((".onnx", ".bin")) else "regular"

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = [
            each | {"actions": {"upload": {"href": f"{self.hub.address}/upload/{each['oid']}"}}}
            for each in asked["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, name: str, branch: str, body: bytes) -> None:
        repository = self.hub.repositories[name]
        files = dict(repository.commits.get(repository.refs.get(branch, ""), {}))
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                repository.message = value["summary"]
            elif entry["key"] == "deletedFile":
                files.pop(value["path"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            else:
                files[value["path"]] = base64.b64decode(value["content"])
        sha = repository.commit(files, branch)
        self._json({"commitUrl": f"{self.hub.address}/{name}/commit/{sha}", "commitOid": sha})

    def _json(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", "refused")
        self.send_header("Content-Length", "0")
        self.end_headers()


def _key(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

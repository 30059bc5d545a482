"""A hub of models on loopback, as far as huggingface_hub asks it: create, commit, list, and files by revision."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeHub:
    """Repositories in memory: for each, its commits, each a table of files.

    Attributes:
        commits: by repository, the commits in their order: their hash and their files.
        asked: the method and path of every request.
    """

    def __init__(self) -> None:
        self.commits: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.asked: list[str] = []
        self.url = ""

    def files(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """A commit's hash and files, by `main` or hash."""
        for commit, files in reversed(self.commits.get(repository, [])):
            if revision in ("main", commit):
                return commit, files
        return None

    def commit(self, repository: str, lines: list[dict[str, Any]]) -> str:
        """Put files into a new commit."""
        before = self.commits[repository][-1][1] if self.commits[repository] else {}
        files = dict(before)
        for line in lines:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        content = b"".join(name.encode() + value for name, value in sorted(files.items()))
        digest = hashlib.sha1(content + str(len(self.commits[repository])).encode()).hexdigest()
        self.commits[repository].append((digest, files))
        return digest


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """The hub, on a free port."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def _send(self, code: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(code)
            for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def _json(self, content: Any, code: int = 200) -> None:
            self._send(code, json.dumps(content).encode(), {"Content-Type": "application/json"})

        def do_POST(self) -> None:
            hub.asked.append(f"POST {self.path}")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = self.path.split("?")[0].strip("/").split("/")
            if parts[:3] == ["api", "repos", "create"]:
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
                hub.commits.setdefault(name, [])
                self._json({"url": f"{hub.url}/{name}", "name": name})
            elif parts == ["api", "validate-yaml"]:
                self._json({"errors": [], "warnings": []})
            elif parts[4:5] == ["preupload"]:
                files = json.loads(body)["files"]
                kept = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in files]
                self._json({"files": kept})
            elif parts[4:5] == ["commit"]:
                lines = [json.loads(line) for line in body.splitlines() if line.strip()]
                name = "/".join(parts[2:4])
                digest = hub.commit(name, lines)
                self._json({"commitUrl": f"{hub.url}/{name}/commit/{digest}", "commitOid": digest, "success": True})
            else:
                self._json({"error": "not known"}, 404)

        def do_GET(self) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            parts = self.path.split("?")[0].strip("/").split("/")
            missing = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
            if parts[:2] == ["api", "models"]:
                found = hub.files("/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main")
                if found is None:
                    return self._send(404, b"{}", missing)
                if parts[4:5] == ["tree"]:
                    tree = [
                        {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                        for name, content in found[1].items()
                    ]
                    return self._json(tree)
                siblings = [{"rfilename": name, "size": len(content)} for name, content in found[1].items()]
                return self._json({"id": "/".join(parts[2:4]), "sha": found[0], "siblings": siblings, "tags": []})
            found = hub.files("/".join(parts[:2]), parts[3]) if len(parts) > 4 else None
            content = None if found is None else found[1].get("/".join(parts[4:]))
            if found is None or content is None:
                return self._send(404, b"", missing)
            tag = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": found[0]}
            return self._send(200, content, tag)

        def do_HEAD(self) -> None:
            self.do_GET()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True  # clients keep connections open, which would be waited for
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""A small server of objects that speaks as much of S3 as restic asks for, and lets nobody in whose signature is wrong.

The real ones that a registry has are far larger than all that the tests install, or do not understand restic's uploads.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

_SEEN = formatdate(usegmt=True)


@dataclass
class ObjectServer:
    """What it holds, by key. `refused` counts the requests that were signed with another secret."""

    access: str
    secret: str
    objects: dict[str, bytes] = field(default_factory=dict)
    refused: int = 0
    port: int = 0

    @property
    def address(self) -> str:
        """The repository as restic calls it."""
        return f"s3:http://127.0.0.1:{self.port}/raid"


@contextmanager
def object_server(access: str, secret: str) -> Iterator[ObjectServer]:
    """It serves one bucket, `raid`, on loopback."""
    held = ObjectServer(access, secret)

    class Handler(_Handler):
        server_holds = held

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        held.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield held
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_holds: ObjectServer

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def do_HEAD(self) -> None:
        self._answer_get(with_body=False)

    def do_GET(self) -> None:
        self._answer_get(with_body=True)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self._is_let_in():
            return
        if self.headers.get("x-amz-content-sha256", "").startswith("STREAMING-"):
            body = b"".join(_chunks(body))
        if key := self._key():
            self.server_holds.objects[key] = body
        self._say(200, b"", ETag=_etag(body))

    def do_DELETE(self) -> None:
        if self._is_let_in():
            self.server_holds.objects.pop(self._key(), None)
            self._say(204, b"")

    def _answer_get(self, *, with_body: bool) -> None:
        if not self._is_let_in():
            return
        query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        if "location" in query:
            self._say(200, b'<?xml version="1.0"?><LocationConstraint/>')
        elif not self._key():
            self._say(200, self._listed(query.get("prefix", ""), query.get("delimiter", "")) if with_body else b"")
        elif (content := self.server_holds.objects.get(self._key())) is None:
            self._complain(404, "NoSuchKey", with_body=with_body)
        else:
            first, last = _range(self.headers.get("Range", ""), len(content))
            told = {"ETag": _etag(content), "Last-Modified": _SEEN}
            told["Content-Range"] = f"bytes {first}-{last - 1}/{len(content)}"
            status = 206 if self.headers.get("Range") else 200
            self._say(status, content[first:last], with_body=with_body, **told)

    def _listed(self, prefix: str, delimiter: str) -> bytes:
        found, folders = [], set()
        for key in sorted(self.server_holds.objects):
            if key.startswith(prefix):
                below, cut, _ = key[len(prefix):].partition(delimiter) if delimiter else (key, "", "")
                if cut:
                    folders.add(prefix + below + delimiter)
                else:
                    found.append(key)
        contents = "".join(
            f"<Contents><Key>{escape(quote(key))}</Key><Size>{len(self.server_holds.objects[key])}</Size>"
            f"<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>" for key in found
        )
        common = "".join(f"<CommonPrefixes><Prefix>{escape(quote(one))}</Prefix></CommonPrefixes>" for one in folders)
        told = f"<Name>raid</Name><IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>{contents}{common}"
        return f'<?xml version="1.0"?><ListBucketResult>{told}</ListBucketResult>'.encode()

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix("/raid").strip("/")

    def _is_let_in(self) -> bool:
        if hmac.compare_digest(self._signature(), self.headers.get("Authorization", "").rpartition("Signature=")[2]):
            return True
        self.server_holds.refused += 1
        self._complain(403, "SignatureDoesNotMatch", with_body=self.command != "HEAD")
        return False

    def _signature(self) -> str:
        """Version 4 of AWS's, as it must be for this request."""
        told = dict(
            part.strip().split("=", 1) for part in self.headers.get("Authorization", "=").partition(" ")[2].split(",")
            if "=" in part
        )
        access, _, scope = told.get("Credential", "").partition("/")
        names = told.get("SignedHeaders", "").split(";")
        url = urlsplit(self.path)
        pairs = parse_qsl(url.query, keep_blank_values=True)
        query = "&".join(sorted(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs))
        headers = "".join(f"{name}:{' '.join(self.headers.get(name, '').split())}\n" for name in names)
        request = "\n".join([
            self.command, url.path, query, headers, ";".join(names), self.headers.get("x-amz-content-sha256", ""),
        ])
        text = "\n".join([
            "AWS4-HMAC-SHA256", self.headers.get("x-amz-date", ""), scope, hashlib.sha256(request.encode()).hexdigest(),
        ])
        key = f"AWS4{self.server_holds.secret if access == self.server_holds.access else ''}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.digest(key, text.encode(), "sha256").hex()

    def _complain(self, status: int, code: str, *, with_body: bool) -> None:
        self._say(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode(), with_body=with_body)

    def _say(self, status: int, body: bytes, *, with_body: bool = True, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def _chunks(body: bytes) -> Iterator[bytes]:
    """What an upload holds whose pieces are signed one by one."""
    at = 0
    while at < len(body):
        end = body.index(b"\r\n", at)
        size = int(body[at:end].partition(b";")[0], 16)
        yield body[end + 2 : end + 2 + size]
        at = end + 2 + size + 2


def _range(wanted: str, size: int) -> tuple[int, int]:
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    return int(first or 0), min(size, int(last) + 1) if last else size

"""Where messages arrive: an HTTP and an SMTP server in a few lines, for a guest that reaches no other.

    python3 sink.py 8025 2525 /root/got      # appends "http BODY" or "mail SUBJECT", a line each
"""

from __future__ import annotations

import sys
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread


def keep(kind: str, text: str) -> None:
    with open(sys.argv[3], "a", encoding="utf-8") as file:
        file.write(f"{kind} {text}\n")


class Http(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        keep("http", self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


class Smtp(StreamRequestHandler):
    def handle(self) -> None:
        self.say("220 sink")
        while line := self.rfile.readline():
            word = line[:4].upper().strip()
            if word == b"DATA":
                self.say("354 go on")
                keep("mail", str(message_from_bytes(self.data(), policy=policy.default)["subject"]))
            self.say("221 bye" if word == b"QUIT" else "250 sink")
            if word == b"QUIT":
                return

    def data(self) -> bytes:
        lines = iter(self.rfile.readline, b".\r\n")
        return b"".join(lines)

    def say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


ThreadingTCPServer.allow_reuse_address = True
open(sys.argv[3], "a", encoding="utf-8").close()
for port, handler in zip(sys.argv[1:3], (Http, Smtp), strict=True):
    Thread(target=ThreadingTCPServer(("", int(port)), handler).serve_forever).start()

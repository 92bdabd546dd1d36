"""The program that delivers: it reads one JSON document, tries everything at once, and prints why each did not arrive.

It must end by itself: at its deadline it leaves, whatever still hangs. It prints no part of a URL but the scheme.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, NoReturn

from drbdbackup import __version__

_LATE = "it did not answer in time"
_TO_END = 3  # seconds after the deadline
_WORD = re.compile(r"[\w.-]{3,}")


def main() -> NoReturn:
    """Deliver what stdin says, print a list of texts in the order of the URLs, then of the pings, and end."""
    os.chdir("/")
    request = json.load(sys.stdin)
    seconds = float(request["timeout"])
    apprise = _loaded() if request["urls"] else None  # before the clock begins: a busy node takes seconds for that
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(seconds) + _TO_END)
    tries: list[Callable[[], str]] = [_message(apprise, url, request["messages"]) for url in request["urls"]]
    tries += [_ping(request["ping"], one, seconds) for one in request["pings"]]
    pool = ThreadPoolExecutor(max(1, len(tries)))
    futures = [pool.submit(one) for one in tries]
    wait(futures, timeout=seconds)
    print(json.dumps([_outcome(one) for one in futures]), flush=True)  # noqa: T201 it is this program's answer
    os._exit(0)  # whatever still hangs


def _outcome(future: Future[str]) -> str:
    if not future.done():
        return _LATE
    error = future.exception()
    return future.result() if error is None else type(error).__name__


def _loaded() -> Any:
    """The library, or None."""
    try:
        import apprise
        import requests
    except ImportError:
        return None
    _bind_redirects(requests.sessions.SessionRedirectMixin)
    return apprise


def _bind_redirects(session: Any) -> None:
    """Have no service lead a message elsewhere. apprise 2 can be told to follow no redirect at all, older ones not."""
    followed = session.get_redirect_target  # "Returns a redirect URI or None"

    def get_redirect_target(self: Any, response: Any) -> str | None:
        target = followed(self, response)
        stays = target is not None and _stays(response.url, urllib.parse.urljoin(response.url, target))
        return target if stays else None

    session.get_redirect_target = get_redirect_target


def _message(apprise: Any, url: str, messages: list[Mapping[str, str]]) -> Callable[[], str]:
    def send() -> str:
        if apprise is None:
            return "apprise is not installed"
        service, to, heard = apprise.Apprise.instantiate(url), apprise.Apprise(), _LastWarning(logging.WARNING)
        if service is None:
            return "apprise does not know such a URL"
        service.logger = logging.Logger("one URL")  # else what it says cannot be told from the others'
        service.logger.addHandler(heard)
        to.add(service)
        well = [  # as text: mail would be taken for HTML, and its lines run together
            to.notify(title=one["title"], body=one["body"], notify_type=one["tone"], body_format="text")
            for one in messages
        ]
        return "" if all(well) else _without(url, heard.last) or "it was refused"

    return send


class _LastWarning(logging.Handler):
    """The last warning about one URL."""

    last = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.last = record.getMessage()


def _without(url: str, text: str) -> str:
    """What apprise said, without anything that is in the URL: each part of it may be a secret."""
    rest = url.partition("://")[2]
    for word in sorted({*_WORD.findall(rest), *_WORD.findall(urllib.parse.unquote(rest))}, key=len, reverse=True):
        text = text.replace(word, "***")
    return " ".join(text.split())[:300]


def _ping(url: str, ping: Mapping[str, str], seconds: float) -> Callable[[], str]:
    def send() -> str:
        request = urllib.request.Request(  # noqa: S310 the configuration takes http and https only
            ping_url(url, ping["signal"], ping["run"]), data=ping["body"].encode(), method="POST",
            headers={"User-Agent": f"drbdbackup/{__version__}", "Content-Type": "text/plain; charset=utf-8"},
        )  # fmt: skip
        try:
            with urllib.request.build_opener(_SameHost).open(request, timeout=seconds):
                return ""
        except urllib.error.HTTPError as error:
            return f"the server answers with status {error.code}"
        except urllib.error.URLError as error:
            why = error.reason
            return why.strerror or type(why).__name__ if isinstance(why, OSError) else type(error).__name__
        except TimeoutError:
            return _LATE
        except OSError as error:
            return error.strerror or type(error).__name__

    return send


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows nobody elsewhere."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The request that comes next, None if there is none."""
        return super().redirect_request(req, fp, code, msg, headers, newurl) if _stays(req.full_url, newurl) else None


def _stays(url: str, target: str) -> bool:
    """Whether a redirect leads to the same server: none must have a node ask what only that node can reach."""
    before, after = urllib.parse.urlsplit(url), urllib.parse.urlsplit(target)
    ways = [(before.scheme, before.hostname, before.port), ("https", before.hostname, None)]
    return (after.scheme, after.hostname, after.port) in ways


def ping_url(url: str, signal: str, run: str) -> str:
    """The URL for a signal: behind the path of the check, with the run's id among what is asked."""
    parts = urllib.parse.urlsplit(url)
    path = f"{parts.path.rstrip('/')}/{signal}" if signal else parts.path
    query = "&".join(filter(None, [parts.query, f"rid={run}" if run else ""]))
    return urllib.parse.urlunsplit(parts._replace(path=path, query=query))


def _unexpected(kind: type[BaseException], *_: Any) -> None:
    """No traceback: it would show what was being sent."""
    sys.stderr.write(f"{kind.__name__}\n")


if __name__ == "__main__":
    sys.excepthook = _unexpected
    main()

"""The benchmark server: a process of its own, TLS 1.3 on loopback, pinned to a core.

nginx when it is installed, else the small asyncio server in `server_asyncio`. It
answers at two addresses: at one, replies never change; at the other, every reply
about one task differs from the last, and in a collection every hundredth task does.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple, Self

import replies
import trustme

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    default_type "application/xml; charset=utf-8";
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    sendfile on;
    tcp_nodelay on;
    ssl_protocols TLSv1.3;
    ssl_certificate {folder}/server.pem;
    ssl_certificate_key {folder}/server.pem;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{count_port};
        location / {{ stub_status; }}
    }}
    server {{ listen 127.0.0.1:{still_port} ssl; {common} {still} }}
    server {{ listen 127.0.0.1:{changing_port} ssl; {common} {changing} }}
}}
"""
NGINX_TASKS = """
        location ~ ^/api/tasks/(?<task>task-[0-9]+)$ {{
            if ($http_x_restsvcsessionid != "{token}") {{ return 401 '{refused}'; }}
            return 200 '{one}';
        }}
        location = /api/tasks {{
            if ($http_x_restsvcsessionid != "{token}") {{ return 401 '{refused}'; }}
            {edit}
            alias {folder}/tasks.xml;
        }}
"""


class Seen(NamedTuple):
    """What the server counted since it started."""

    requests: int
    open_connections: int


class BenchServer:
    """Context manager around the server process.

    Args:
        tasks: How many tasks the collection holds.
        cpu: The core that the process is pinned to, or None.
        kind: ``"nginx"``, ``"asyncio"``, or None for the best that is there.
    """

    def __init__(
        self, *, tasks: int, cpu: int | None = None, kind: str | None = None
    ) -> None:
        self.kind = kind or ("nginx" if shutil.which("nginx") else "asyncio")
        self._cpu = cpu
        self._tasks = tasks
        self._asked = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self.ca_file = str(self._folder / "ca.pem")
        self._still, self._changing, self._count = _free_ports(3)

    def __enter__(self) -> Self:
        self._certify()
        (self._folder / "tasks.xml").write_text(replies.collection(self._tasks))
        command = self._nginx() if self.kind == "nginx" else self._asyncio()
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        if self._cpu is not None:
            os.sched_setaffinity(self._process.pid, {self._cpu})
        try:
            self._wait_until_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        shutil.rmtree(self._folder)

    @property
    def options(self) -> dict[str, object]:
        """What its client must know besides: nothing."""
        return {}

    def url(self, *, changing: bool = False) -> str:
        """Return the address whose replies never change, or always do."""
        return f"https://127.0.0.1:{self._changing if changing else self._still}"

    def seen(self) -> Seen:
        """Ask the server how many requests and connections it had (not this one's)."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._count}/") as reply:
            words = reply.read().split()
        # Active connections: A / server accepts handled requests / a h r ...
        self._asked += 1
        return Seen(int(words[9]) - self._asked, int(words[2]) - 1)

    def version(self) -> str:
        """Return what the server is, for the record."""
        if self.kind == "asyncio":
            return f"raw asyncio on Python {sys.version.split()[0]}"
        shown = subprocess.run(
            ["nginx", "-v"], capture_output=True, check=True, text=True
        )
        return shown.stderr.strip().removeprefix("nginx version: ")

    def _certify(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_file)
        own = authority.issue_cert("127.0.0.1", "localhost")
        own.private_key_and_cert_chain_pem.write_to_path(
            str(self._folder / "server.pem")
        )

    def _nginx(self) -> list[str]:
        refused = replies.ERROR % (401, "No token", "No token")
        common = {"token": replies.TOKEN, "refused": refused, "folder": self._folder}
        still = NGINX_TASKS.format(
            one=replies.one_task("$task", "StartJob"), edit="", **common
        )
        edit = (
            "sub_filter_types *; sub_filter_once off;"
            f" sub_filter {replies.CHANGING} QuickBackup$request_id;"
        )
        changing = NGINX_TASKS.format(
            one=replies.one_task("$task", "StartJob$request_id"), edit=edit, **common
        )
        text = NGINX.format(
            folder=self._folder,
            count_port=self._count,
            still_port=self._still,
            changing_port=self._changing,
            common=_nginx_common(),
            still=still,
            changing=changing,
        )
        path = self._folder / "nginx.conf"
        path.write_text(text)
        return ["nginx", "-e", f"{self._folder}/error.log", "-c", str(path)]

    def _asyncio(self) -> list[str]:
        settings = {
            "folder": str(self._folder),
            "still": self._still,
            "changing": self._changing,
            "count": self._count,
        }
        program = Path(__file__).with_name("server_asyncio.py")
        return [sys.executable, str(program), json.dumps(settings)]

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._count), 1).close()
                socket.create_connection(("127.0.0.1", self._changing), 1).close()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                self._asked = 0
                self._asked = self.seen().requests + 1
                return


def _nginx_common() -> str:
    return f"""
        add_header Cache-Control private always;
        location = /api/sessionMngr/ {{
            add_header X-RestSvcSessionId {replies.TOKEN} always;
            return 201 '{replies.LOGON}';
        }}
        location /api/logonSessions/ {{ return 204; }}
    """


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()

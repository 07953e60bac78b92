"""An engine on a clock moved by hand, over a transport that a test scripts."""

from random import Random
from typing import Any

from yarl import URL

from support.manual_loop import ManualLoop, manual_loop
from veeam_tasks import Notice, VeeamTasksError
from veeam_tasks._engine.engine import Engine
from veeam_tasks._protocol.messages import Reply, Request
from veeam_tasks._redaction import Secret, Secrets
from veeam_tasks._session.credentials import Credentials
from veeam_tasks._session.logon_session import LogonSession
from veeam_tasks._telemetry.notices import Notices


class Script:
    """Answers logons and questions about our own logon session."""

    def __init__(self) -> None:
        self.own: int | VeeamTasksError = 401
        self.post: int | VeeamTasksError = 201
        self.logons = 0

    def url(self, path: str) -> URL:
        """Return a URL below the API's."""
        return URL("https://h:9398/api/") / path

    async def send(
        self, request: Request, token: str | None = None, *, uncertain: bool = False
    ) -> Reply:
        """Give the answer of the day."""
        answer = self.own
        if request.method == "POST":
            answer, self.logons = self.post, self.logons + 1
        if isinstance(answer, VeeamTasksError):
            raise answer
        new = f"token-{self.logons}" if answer == 201 else None
        return Reply(
            request="POST x",
            status=answer,
            content_type="application/xml",
            body=b"<LogonSession/>" if answer == 200 else b"",
            token=new,
        )


class EngineScene:
    """An engine under its first token, which was accepted; nothing polls by itself."""

    def __init__(
        self,
        patience: float | None = None,
        *,
        loop: Any = None,
        transport: Script | None = None,
        engine_class: type[Engine] = Engine,
        request_timeout: float = 30.0,
    ) -> None:
        self.loop: ManualLoop = loop or manual_loop(100.0)
        self.script = transport or Script()
        self.notices: list[Notice] = []
        self.logon = LogonSession(
            transport=self.script,  # type: ignore[arg-type] # what is sent, no more
            listener=self,
            secrets=Secrets(),
            credentials=Credentials(username="u", password="secret"),
            api_version="latest",
            media_type="application/xml",
        )
        # As `adopt` does, which asks the running loop for the time.
        self.logon.token, self.logon.session_id = Secret("token-0"), Secret("695c2c92")
        self.logon.generation, self.logon.accepted = 1, True
        self.engine = engine_class(
            loop=self.loop,  # type: ignore[arg-type] # a clock and timers
            transport=self.script,  # type: ignore[arg-type] # what is sent, no more
            session=self.logon,
            secrets=self.logon.secrets,
            notices=Notices(self.notices.append),
            max_in_flight=1,
            request_timeout=request_timeout,
            patience=patience,
            max_reply_bytes=1 << 20,
            random=Random(0),
            coalesce="never",
            max_collection_bytes=1 << 20,
        )
        self.tracker = self.engine.tracker
        self.queue = self.engine.queue
        self.health = self.engine.health

    def logged_on(self) -> None:
        """Be there."""

    def renewed(self) -> None:
        """Tell the engine, as the runtime does."""
        self.engine.renewed()

    def refused(self, error: VeeamTasksError) -> None:
        """End everything, as the runtime does."""
        self.engine.end_all(error)

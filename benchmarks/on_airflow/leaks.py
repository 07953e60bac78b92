"""Search the database, the logs and the answers of a whole Airflow for secrets."""

import base64
import json
import urllib.error
from collections.abc import Iterable, Iterator

from figures import Figures
from secrets_search import Search, decrypted, tables_of
from stack import Stack

from veeam_tasks.simulator import ThreadedServer

WATCHED = (
    "connection",
    "variable",
    "trigger",
    "xcom",
    "task_state_store",
    "rendered_task_instance_fields",
    "task_instance",
    "log",
)
"""Tables whose numbers of rows are told: nothing is found in an empty one."""
MAY_HOLD = {"connection", "variable"}
_FILLED = {
    "{dag_id}": "~",
    "{dag_run_id}": "~",
    "{connection_id}": "em",
    "{variable_key}": "veeam_em_token__em",
}
_PAGE = 100


def secrets_of(server: ThreadedServer) -> Iterator[str]:
    """Give each token and session ID that a client of this server ever had."""
    for session in server.logon_sessions:
        yield from (session.token, session.session_id)
    for token in {one.header("X-RestSvcSessionId") for one in server.requests}:
        if token:
            # This server's tokens are its session IDs in base64.
            yield from (token, base64.b64decode(token).decode())


def search(
    stack: Stack,
    figures: Figures,
    when: str,
    *,
    passwords: Iterable[str],
    servers: Iterable[ThreadedServer],
    commands: bool = False,
) -> None:
    """Search everywhere; print what was found where."""
    theirs = {text for server in servers for text in secrets_of(server)}
    wanted = Search({*passwords, *theirs})
    forms = f"{len(wanted.secrets)}, in {wanted.number_of_forms} forms"
    figures.fact(f"{when}: secrets searched for", forms)
    figures.exact(f"{when}: forms that would not be found", wanted.blind_spots(), 0)
    _search_dump(stack, figures, when, wanted)
    logs = list(stack.logs())
    found = sorted({path.name for path, text in logs if wanted.count(text)})
    figures.at_least(f"{when}: files, of logs and settings", len(logs), 10)
    figures.exact(f"{when}: files with secrets", found, [])
    answers = dict(_answers(stack))
    figures.at_least(f"{when}: answers of the REST API", len(answers), 20)
    asked = [name for name, text in answers.items() if wanted.count(text)]
    figures.exact(f"{when}: answers with secrets", asked, [])
    if commands:
        _search_commands(stack, figures, when, wanted)


def _search_dump(stack: Stack, figures: Figures, when: str, wanted: Search) -> None:
    dump = stack.dump()
    tables = tables_of(dump)
    rows = {name: tables[name].count(b"\n") for name in WATCHED}
    figures.fact(f"{when}: rows in the dump", rows)
    name = f"{when}: secrets in the dump of {len(dump) >> 10} KiB"
    figures.exact(name, wanted.count(dump), 0)
    inside = {
        name: sum(map(wanted.count, decrypted(rows, stack.decrypt)))
        for name, rows in tables.items()
    }
    holders = {name: count for name, count in inside.items() if count}
    others = {name: n for name, n in holders.items() if name not in MAY_HOLD}
    name = f"{when}: encrypted ones outside Connections and Variables"
    figures.exact(name, others, {})
    # Else it might be that nothing was found because nothing was there.
    name = f"{when}: encrypted ones in Connections and Variables"
    figures.at_least(name, sum(holders.values()), 2)


def _answers(stack: Stack) -> Iterator[tuple[str, bytes]]:
    """Give answers of the REST API: to what names no task, and of some tasks."""
    token = stack.rest_token()
    known = json.loads(stack.rest("/openapi.json"))["paths"]
    for template in sorted(known):
        path = template
        for name, value in _FILLED.items():
            path = path.replace(name, value)
        is_filled = "get" in known[template] and "{" not in path
        if not is_filled or path.endswith("/wait") or "/auth/" in path:
            # One waits for a DAG to end; one logs out.
            continue
        yield from _pages(stack, path, token)
    for dag, run, task, index in stack.query(
        "select dag_id, run_id, task_id, map_index from task_instance"
        " where state in ('failed', 'success') order by id limit 100"
    ):
        one = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}"
        for asked in ("logs/1", "xcomEntries/return_value"):
            yield from _pages(stack, f"{one}/{asked}", token, f"map_index={index}&")


def _pages(
    stack: Stack, path: str, token: str, query: str = ""
) -> Iterator[tuple[str, bytes]]:
    total, offset = 1, 0
    while offset < total:
        asked = f"{path}?{query}limit={_PAGE}&offset={offset}"
        try:
            text = stack.rest(asked, token)
        except urllib.error.HTTPError:
            return
        yield asked, text
        offset += _PAGE
        try:
            total = int(json.loads(text)["total_entries"])
        except (ValueError, KeyError, TypeError):
            return


def _search_commands(stack: Stack, figures: Figures, when: str, wanted: Search) -> None:
    for kind in ("connections", "variables"):
        listed = (kind, "list", "--output", "json")
        for options in ((), ("--show-values", "--hide-sensitive")):
            name = " ".join(("airflow", *listed[:2], *options))
            text = stack.airflow(*listed, *options).encode()
            figures.exact(f"{when}: secrets in `{name}`", wanted.count(text), 0)
        # Whoever has the key of the encryption may see them: they are there.
        shown = wanted.count(stack.airflow(*listed, "--show-values").encode())
        figures.at_least(f"{when}: with --show-values alone", shown, 1)

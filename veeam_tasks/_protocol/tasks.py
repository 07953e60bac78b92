"""The neutral tree to tasks, links and paging; pure.

Every function raises nothing but `DocumentError`, which says what is wrong in words.
Facts (``tasks``, ``tasks_id``, ``get_query_task`` reference pages, the vendor's XSD):
a task has TaskId, State and Operation, maybe Links and a Result; a Result has Success.
Version 12 prints null for what is absent, so whatever a task can be known without may
be absent, empty or null: all but its TaskId and its State.
"""

import re
from collections.abc import Callable
from sys import intern
from typing import Any

import attrs

from veeam_tasks._model import TASK_ID, Link, Task, TaskResult, TaskState
from veeam_tasks._protocol.limits import DocumentError
from veeam_tasks._redaction import Secrets

# What XML takes for blanks: other spaces belong to the text.
_BLANKS = " \t\r\n"
_SUCCESS = {"true": True, "1": True, "false": False, "0": False}
_COUNT = re.compile(r"[0-9]{1,9}", re.ASCII)
# Everything up to the last "/api/" of a link's path.
_AFTER_API = re.compile(r"[^?]*/api/")
_PATH = re.compile(
    r"(?!/)[A-Za-z0-9._~!$&'()*+,;=@%/-]+(\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?",
    re.ASCII,
)


def single(name: str, value: Any) -> Any:
    """Return the one task of a document."""
    if name == "Task" or (name == "" and "TaskId" in value):
        return value
    if name == "Tasks" or (name == "" and "Tasks" in value):
        members = _members(value if name else value["Tasks"])
        if len(members) == 1:
            return members[0]
        problem = f"it holds {len(members)} tasks instead of one"
        raise DocumentError(problem)
    raise DocumentError(_not_a("task", name, value))


def collection(name: str, value: Any) -> tuple[list[Any], Any]:
    """Return the tasks of a document, and its PagingInfo if there is one."""
    if name == "Tasks":
        return _members(value), None
    if name == "" and "Tasks" in value:
        return _members(value["Tasks"]), value.get("PagingInfo")
    if name == "QueryResult" or (name == "" and "Resources" in value):
        found = mapping(value, "QueryResult")
        resources = mapping(found.get("Resources"), "Resources")
        return _members(resources.get("Tasks")), found.get("PagingInfo")
    raise DocumentError(_not_a("collection of tasks", name, value))


def _not_a(what: str, name: str, value: Any) -> str:
    if name:
        return f"it is no {what}, since its root is <{name}>"
    names = ", ".join([key[1:] if key[0] in "?@" else key for key in value]) or "none"
    return f"it is no {what}, since its members are {names}"


def _members(value: Any) -> list[Any]:
    """Return the tasks of ``<Tasks>``, of a JSON list or of its doubled plural."""
    if type(value) is dict:
        strange = [key for key in value if key[0] not in "@#"]
        value = value.get("Task", value.get("Tasks", strange[0] if strange else None))
    if value is None:
        return []
    if type(value) is list:
        return value
    problem = "its Tasks are no list of tasks"
    raise DocumentError(problem)


def mapping(value: Any, name: str) -> dict[str, Any]:
    """Return the members that a value has; none if it is absent or null."""
    if type(value) is dict:
        return value
    if value is None:
        return {}
    problem = f"its {name} has no members"
    raise DocumentError(problem)


def task_from_tree(node: Any, secrets: Secrets) -> Task:
    """Return the task that a node describes, with no known secret in it."""
    if type(node) is not dict:
        problem = "a task in it has no members"
        raise DocumentError(problem)
    task_id = _required(node, "TaskId")
    if TASK_ID.fullmatch(task_id) is None:
        problem = f"its TaskId is no task ID: {task_id}"
        raise DocumentError(problem)
    word = _required(node, "State")
    state = TaskState.from_word(word)
    operation = text(node, "Operation") or ""
    href = text(node, "@Href") or None
    links = links_of(node["Links"], href) if "Links" in node else ()
    result = _result(node["Result"]) if "Result" in node else None
    if secrets.is_in(_told(word, operation, href, result, links)):
        hide = secrets.hide
        word, operation = hide(word), hide(operation)
        href = None if href is None else hide(href)
        links = tuple([_hidden(link, hide) for link in links])
        if result is not None and result.message is not None:
            result = attrs.evolve(result, message=hide(result.message))
    return Task(
        task_id=task_id,
        state=state,
        raw_state=word if state is TaskState.UNKNOWN else state.value,
        operation=intern(operation),
        result=result,
        links=links,
        href=href,
    )


def _told(
    word: str,
    operation: str,
    href: str | None,
    result: TaskResult | None,
    links: tuple[Link, ...],
) -> str:
    """Return all that the server may have put an echo of a secret into."""
    texts = [word, operation, href or ""]
    if result is not None and result.message is not None:
        texts.append(result.message)
    for link in links:
        if link.href is not href:
            texts.append(link.href)
        if link.name:
            texts.append(link.name)
    return "\n".join(texts)


def _hidden(link: Link, hide: Callable[[str], str]) -> Link:
    return Link(
        rel=link.rel,
        href=hide(link.href),
        type=link.type,
        name=None if link.name is None else hide(link.name),
    )


def _result(node: Any) -> TaskResult | None:
    """Return a Result; None if it does not say whether the operation succeeded."""
    if node is None:
        return None
    if type(node) is not dict:
        problem = "its Result has no Success"
        raise DocumentError(problem)
    if "@Success" not in node:
        return None
    found = str(node["@Success"]).strip()
    success = _SUCCESS.get(found.lower())
    if success is None:
        problem = f"its Result has no Success but {found}"
        raise DocumentError(problem)
    return TaskResult(success=success, message=text(node, "Message") or None)


def links_of(value: Any, own: str | None) -> tuple[Link, ...]:
    """Return the links of a node, those to its own Href with that very string."""
    if type(value) is dict:
        value = value.get("Link")
    if value is None:
        return ()
    if type(value) is dict:
        value = [value]
    if type(value) is not list:
        problem = "its Links are no links"
        raise DocumentError(problem)
    links = [_link(node, own) for node in value]
    return tuple([link for link in links if link is not None])


def _link(node: Any, own: str | None) -> Link | None:
    """Return a link; None if it does not say where it leads, or what for."""
    if node is None:
        return None
    if type(node) is not dict:
        problem = "a link in it has no members"
        raise DocumentError(problem)
    rel, href = text(node, "@Rel"), text(node, "@Href")
    if not rel or not href:
        return None
    kind = text(node, "@Type")
    return Link(
        rel=intern(rel),
        # Most tasks have a link to themselves; one string serves both.
        href=own if own is not None and href == own else href,
        type=intern(kind) if kind else None,
        name=text(node, "@Name"),
    )


def _required(node: dict[str, Any], name: str) -> str:
    found = text(node, name)
    if found:
        return found
    problem = f"it has no {name.lstrip('@')}"
    raise DocumentError(problem)


def text(node: dict[str, Any], name: str) -> str | None:
    """Return a text without the blanks around it; None if it is absent or nil."""
    value = node.get(name)
    if type(value) is str:
        return value.strip(_BLANKS)
    if value is None:
        return None
    if type(value) is dict and all(key[0] in "@#" for key in value):
        # An element with attributes: xmltodict puts its text aside.
        return None if _is_nil(value) else text(value, "#text")
    problem = f"its {name.lstrip('@')} is no text"
    raise DocumentError(problem)


def _is_nil(node: dict[str, Any]) -> bool:
    """Tell whether an element says ``xsi:nil="true"``, whatever its prefix."""
    return any(
        key.endswith(":nil") and str(value).strip().lower() in {"true", "1"}
        for key, value in node.items()
    )


def count(paging: Any, name: str) -> int | None:
    """Return a number of the PagingInfo, by its name; None if the server said none."""
    found = mapping(paging, "PagingInfo").get(name)
    if found is None:
        return None
    text = str(found).strip()
    if _COUNT.fullmatch(text) is None:
        problem = f"its {name.lstrip('@')} is no count: {text}"
        raise DocumentError(problem)
    return int(text)


def next_path(paging: Any) -> str | None:
    """Return where the next page is, below ``/api/``; None if no link says so."""
    links = links_of(mapping(paging, "PagingInfo").get("Links"), None)
    hrefs = [link.href for link in links if link.rel.lower() == "next"]
    if not hrefs:
        return None
    # Scheme and host are the server's own idea of itself; only the rest is used.
    path = _AFTER_API.sub("", hrefs[0], count=1)
    if len(hrefs) > 1 or _PATH.fullmatch(path) is None or ".." in path:
        problem = f"its link to the next page leads nowhere: {hrefs[0]}"
        raise DocumentError(problem)
    return path

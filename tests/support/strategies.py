"""Hypothesis strategies for tasks and for the bodies that describe them.

Written from the protocol alone; nothing here comes from the package.
"""

import json
from typing import Any

import attrs
from hypothesis import strategies as st

from veeam_tasks._model import Link, Task, TaskResult, TaskState
from veeam_tasks._protocol.messages import Reply

VEEAM = "http://www.veeam.com/ent/v1.0"
XSD = "http://www.w3.org/2001/XMLSchema"
XSI = "http://www.w3.org/2001/XMLSchema-instance"

KNOWN = {
    "Running": TaskState.RUNNING,
    "OperationFinished": TaskState.OPERATION_FINISHED,
    "Finished": TaskState.FINISHED,
}


def reply(
    body: bytes,
    content_type: str = "application/xml",
    status: int = 200,
    request: str = "GET https://em.example:9398/api/tasks/task-7",
    **more: Any,
) -> Reply:
    """Return a reply to the GET of a task."""
    return Reply(
        request=request, status=status, content_type=content_type, body=body, **more
    )


# What both XML and JSON can carry; blanks around a text do not survive.
texts = (
    st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"])
        .filter(lambda char: char not in "\ufeff\ufffe\uffff")
        .filter(lambda char: char.isprintable())
        | st.sampled_from(" <>&\"'"),
        min_size=1,
        max_size=30,
    )
    .map(str.strip)
    .filter(bool)
)
words = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,20}", fullmatch=True)
task_ids = st.integers(1, 10**9).map("task-{}".format)
hrefs = st.builds(
    "https://{}:9398/api/{}{}".format,
    st.sampled_from(["h", "em.example"]),
    words,
    st.sampled_from(["", "?format=Entity", "?a=1&b=2", "/a%20b"]),
)
links = st.builds(
    Link,
    rel=st.sampled_from(["Delete", "Related", "Download", "Down"]),
    href=hrefs,
    type=st.none() | st.sampled_from(["Task", "RestoreSession", "Job"]),
    name=st.none() | st.just("") | texts,
)
results = st.builds(TaskResult, success=st.booleans(), message=st.none() | texts)


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    """Return any task that the schema allows."""
    word = draw(st.sampled_from(sorted(KNOWN)) | words)
    return Task(
        task_id=draw(task_ids),
        state=KNOWN.get(word, TaskState.UNKNOWN),
        raw_state=word,
        operation=draw(texts),
        result=draw(st.none() | results),
        links=tuple(draw(st.lists(links, max_size=3))),
        href=draw(st.none() | hrefs),
    )


collections = st.lists(tasks(), max_size=5, unique_by=lambda task: task.task_id)


@attrs.frozen(kw_only=True)
class Writer:
    """One way to write XML; `draw` decides whatever the schema leaves open.

    Plain is what the server prints in captures: no prefix, no comments.
    """

    draw: st.DrawFn
    prefix: str = ""
    namespaces: tuple[tuple[str, str], ...] = (("xmlns", VEEAM),)
    plain: bool = True

    def blanks(self) -> str:
        """Return what may stand between two elements."""
        some = ["", "\n  ", "\r\n\t", " "]
        if not self.plain:
            some += ["<!-- State -->", "<?target data?>", " <!--<Task>--> "]
        return self.draw(st.sampled_from(some))

    def escaped(self, text: str, *, quote: str = "") -> str:
        """Return a text with what must be escaped, and some more."""
        forms = {"&": ["&amp;", "&#38;"], "<": ["&lt;", "&#x3C;"]}
        if quote:
            forms[quote] = ["&quot;" if quote == '"' else "&#39;"]
            forms["/"] = ["/", "/", "&#x2F;"]
        # A ]]> must not stand in a text.
        forms[">"] = ["&gt;"]
        return "".join(
            self.draw(st.sampled_from(forms.get(char, [char]))) for char in text
        )

    def text(self, text: str) -> str:
        """Return the content of an element."""
        if not self.plain and self.draw(st.booleans()):
            inner = text.replace("]]>", "]]]]><![CDATA[>")
            return f"<![CDATA[{inner}]]>"
        around = self.draw(st.sampled_from(["", "\n ", " "]))
        return f"{around}{self.escaped(text)}{around}"

    def element(
        self,
        name: str,
        attributes: dict[str, str | None],
        children: list[str] | None = None,
        text: str | None = None,
        declarations: tuple[tuple[str, str], ...] = (),
    ) -> str:
        """Return one element with its attributes in any order."""
        pairs = [(key, value) for key, value in attributes.items() if value is not None]
        pairs = self.draw(st.permutations([*pairs, *declarations]))
        written = ""
        for key, value in pairs:
            quote = self.draw(st.sampled_from("\"'" if not self.plain else '"'))
            written += f" {key}={quote}{self.escaped(value, quote=quote)}{quote}"
        name = self.prefix + name
        if text is None and not children:
            if self.draw(st.booleans()):
                return f"<{name}{written}{self.draw(st.sampled_from(['', ' ']))}/>"
            return f"<{name}{written}></{name}>"
        inner = self.text(text) if text is not None else self.blanks()
        for child in children or []:
            inner += child + self.blanks()
        return f"<{name}{written}>{inner}</{name}>"

    def task(self, task: Task, declarations: tuple[tuple[str, str], ...] = ()) -> str:
        """Return the element of a task."""
        children = []
        if task.links or self.draw(st.booleans()):
            children.append(
                self.element("Links", {}, [self.link(link) for link in task.links])
            )
        children.append(self.element("TaskId", {}, text=task.task_id))
        children.append(self.element("State", {}, text=task.raw_state))
        children.append(self.element("Operation", {}, text=task.operation))
        if task.result is not None:
            children.append(self.result(task.result))
        attributes = {"Type": "Task", "Href": task.href}
        return self.element("Task", attributes, children, declarations=declarations)

    def link(self, link: Link) -> str:
        """Return the element of a link."""
        return self.element(
            "Link",
            {"Rel": link.rel, "Href": link.href, "Type": link.type, "Name": link.name},
        )

    def result(self, result: TaskResult) -> str:
        """Return the element of a result."""
        words = ["true", "True", "1"] if result.success else ["false", "FALSE", "0"]
        children = []
        if result.message is not None:
            children.append(self.element("Message", {}, text=result.message))
        elif self.draw(st.booleans()):
            children.append(self.element("Message", {}))
        return self.element(
            "Result", {"Success": self.draw(st.sampled_from(words))}, children
        )

    def document(self, root: str) -> bytes:
        """Return the bytes of a document."""
        declaration = '<?xml version="1.0" encoding="utf-8"?>'
        head = self.draw(st.sampled_from(["", declaration, f"{declaration}\r\n"]))
        lead = self.draw(
            st.sampled_from([b"", b"\xef\xbb\xbf", b"\n ", b"\xef\xbb\xbf\n"])
        )
        return (
            lead + f"{head}{root}{self.draw(st.sampled_from(['', chr(10)]))}".encode()
        )


@st.composite
def writers(draw: st.DrawFn, *, plain: bool | None = None) -> Writer:
    """Return one way to write XML: default, prefixed or absent namespace."""
    is_plain = draw(st.booleans()) if plain is None else plain
    kinds: list[tuple[str, tuple[tuple[str, str], ...]]] = [
        ("", (("xmlns", VEEAM),)),
        ("", (("xmlns", VEEAM), ("xmlns:xsd", XSD), ("xmlns:xsi", XSI))),
        ("", ()),
    ]
    if not is_plain:
        kinds += [("v:", (("xmlns:v", VEEAM),))]
        kinds += [("v:", (("xmlns", "urn:other"), ("xmlns:v", VEEAM)))]
    prefix, namespaces = draw(st.sampled_from(kinds))
    return Writer(draw=draw, prefix=prefix, namespaces=namespaces, plain=is_plain)


@st.composite
def xml_tasks(draw: st.DrawFn) -> tuple[Task, bytes]:
    """Return a task with some XML that describes it."""
    task, writer = draw(tasks()), draw(writers())
    return task, writer.document(writer.task(task, writer.namespaces))


@st.composite
def xml_collections(
    draw: st.DrawFn, *, plain: bool | None = None
) -> tuple[list[Task], bytes]:
    """Return some tasks with an XML collection of them."""
    members, writer = draw(collections), draw(writers(plain=plain))
    children = [writer.task(task) for task in members]
    root = writer.element("Tasks", {}, children, declarations=writer.namespaces)
    return members, writer.document(root)


def _camel(value: Any) -> Any:
    if isinstance(value, list):
        return [_camel(item) for item in value]
    if isinstance(value, dict):
        return {key[0].lower() + key[1:]: _camel(item) for key, item in value.items()}
    return value


def _without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if isinstance(value, dict):
        return {
            key: _without_nulls(item) for key, item in value.items() if item is not None
        }
    return value


def json_task(task: Task) -> dict[str, Any]:
    """Return a task as version 12 prints it: PascalCase, absent members null."""
    return {
        "TaskId": task.task_id,
        "State": task.raw_state,
        "Operation": task.operation,
        "Result": None
        if task.result is None
        else {"Success": task.result.success, "Message": task.result.message},
        "Links": [
            {"Rel": link.rel, "Href": link.href, "Name": link.name, "Type": link.type}
            for link in task.links
        ],
        "Href": task.href,
        "Type": "Task",
    }


@st.composite
def json_documents(draw: st.DrawFn, value: dict[str, Any]) -> bytes:
    """Return the bytes of an object as some version prints it."""
    if draw(st.booleans()):
        value = _without_nulls(value)
    if draw(st.booleans()):
        value = _camel(value)
    written = json.dumps(value, ensure_ascii=draw(st.booleans()))
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf", b"\r\n"])) + written.encode()


@st.composite
def json_tasks(draw: st.DrawFn) -> tuple[Task, bytes]:
    """Return a task with some JSON that describes it."""
    task = draw(tasks())
    return task, draw(json_documents(json_task(task)))


@st.composite
def json_collections(draw: st.DrawFn) -> tuple[list[Task], bytes]:
    """Return some tasks with a JSON collection or query result of them."""
    members = draw(collections)
    found = [json_task(task) for task in members]
    unused = {"Refs": None, "Entities": None, "Links": None, "PagingInfo": None}
    shapes: list[dict[str, Any]] = [
        {"Tasks": found},
        {"Resources": {"Tasks": {"Tasks": found}, "Files": None}, **unused},
        {"Resources": {"Tasks": found}, **unused},
    ]
    return members, draw(json_documents(draw(st.sampled_from(shapes))))

"""Documents: XML and JSON to the neutral tree and back, and their limits."""

import datetime as dt
import enum
import json
import time
import tracemalloc
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest
from support.strategies import VEEAM, XSI, reply

from veeam_tasks._errors import ArgumentError, MalformedReplyError
from veeam_tasks._protocol.document import encode, parse, parse_as_is
from veeam_tasks._redaction import Secrets

SECRETS = Secrets()
LIMIT = 1 << 20


def tree(body: str | bytes, content_type: str = "application/xml") -> tuple[str, Any]:
    """Return what a body is parsed to."""
    data = body if isinstance(body, bytes) else body.encode()
    return parse(reply(data, content_type), SECRETS)


def refusal(body: str | bytes, content_type: str = "application/xml") -> str:
    """Return why a body is refused."""
    with pytest.raises(MalformedReplyError) as caught:
        tree(body, content_type)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value.problem


# --- which decoder


TYPES = pytest.mark.parametrize(
    "content_type",
    [
        "application/xml",
        "text/xml",
        "application/atom+xml",
        "application/json",
        "text/json",
        "application/problem+json",
        "text/plain",
        "application/octet-stream",
        "",
    ],
)


@TYPES
def test_what_begins_as_xml_is_xml(content_type: str) -> None:
    """Proxies change types; the first byte says what it is."""
    assert tree("<A>b</A>", content_type) == ("A", "b")
    assert tree("\ufeff \n<A>b</A>", content_type) == ("A", "b")
    assert tree("\ufeff<A>b</A>".encode("utf-16-be"), content_type) == ("A", "b")


@TYPES
def test_what_begins_as_json_is_json(content_type: str) -> None:
    """The first byte says what it is, also under a type of XML."""
    assert tree('{"State":"b"}', content_type) == ("", {"State": "b"})
    assert refusal("[]", content_type) == "its root is not a JSON object"


@TYPES
@pytest.mark.parametrize(
    "body",
    [
        "<html/>",
        "<HTML lang='en'><body/></HTML>",
        "\ufeff\r\n<!DOCTYPE html><html/>",
        "<!doctype\nHTML PUBLIC 'x'>",
    ],
)
def test_what_begins_as_html_is_refused(content_type: str, body: str) -> None:
    """A proxy's page is never the Enterprise Manager's word, whatever its type."""
    expected = f"it is HTML (Content-Type: {content_type or 'none'})"
    assert refusal(body, content_type) == expected


@pytest.mark.parametrize("content_type", ["text/html", "application/xhtml+xml"])
@pytest.mark.parametrize("body", ["<A>b</A>", '{"State":"b"}', "<html/>"])
def test_what_says_that_it_is_html_is_refused(content_type: str, body: str) -> None:
    """So it is by its type, whatever it holds."""
    expected = f"it is not XML or JSON but {content_type}"
    assert refusal(body, content_type) == expected


def test_only_the_whole_name_is_html() -> None:
    """An element whose name only begins so is one like any other."""
    for name in ("htmlText", "html-text", "html.text"):
        assert tree(f"<{name}>b</{name}>") == (name, "b")


@pytest.mark.parametrize(
    ("body", "content_type", "problem"),
    [
        (b"A", "text/plain", "it is not XML or JSON but text/plain"),
        (b"A", "application/xml", "it is not XML or JSON but application/xml"),
        (b"1", "application/json", "it is not XML or JSON but application/json"),
        (b"A", "", "it is not XML or JSON but of no known type"),
        (b"", "application/xml", "the reply is empty (Content-Type: application/xml)"),
        (b"\xef\xbb\xbf \r\n", "", "the reply is empty (Content-Type: none)"),
    ],
)
def test_other_bodies_are_refused(body: bytes, content_type: str, problem: str) -> None:
    """What begins as neither is neither; the Content-Type is named."""
    assert refusal(body, content_type).startswith(problem)


def test_a_problem_shows_no_secret_and_no_control_character() -> None:
    """What is quoted from the server is hidden, visible and short."""
    secrets = Secrets()
    secrets.add("dG9rZW4tMTIzNDU2Nzg5MA==")
    body = reply(b"A dG9rZW4tMTIzNDU2Nzg5MA==", "x/\x1b" + "y" * 999)
    with pytest.raises(MalformedReplyError) as caught:
        parse(body, secrets)
    assert caught.value.problem.startswith("it is not XML or JSON but x/\\x1byyy")
    assert caught.value.problem.endswith("y...")
    assert len(caught.value.problem) < 200
    assert caught.value.excerpt == "'A [hidden]'"


def test_without_secrets_nothing_of_the_body_is_told() -> None:
    """A logon's body does not reach a message."""
    with pytest.raises(MalformedReplyError) as caught:
        parse(reply(b'{"secret":1,"secret":2}', "application/json"), None)
    assert "secret" not in str(caught.value)


# --- XML


@pytest.mark.parametrize(
    "body",
    [
        f'<A xmlns="{VEEAM}"><B C="1">t</B></A>',
        f'<v:A xmlns:v="{VEEAM}"><v:B C="1">t</v:B></v:A>',
        f'<A xmlns="{VEEAM}" xmlns:v="{VEEAM}"><v:B C="1">t</v:B></A>',
        f'<A><B xmlns="{VEEAM}" C="1">t</B></A>',
        f'<A xmlns="{VEEAM}"><B xmlns="" C="1">t</B></A>',
        f'<A xmlns:xsi="{XSI}"><B C="1">t</B></A>',
        '<A><B C="1">t</B></A>',
        "<A><B C='1'>t</B></A>",
        '\ufeff<A><B C="1">t</B></A>',
        ' \r\n\t<?xml version="1.0"?><A><B C="1">t</B></A>',
        '\ufeff\n<?xml version="1.0" encoding="UTF-8"?>\n<A><B C="1">t</B></A>\n',
        '<?xml version="1.0"?><?a b?><!-- c --><A><B C="1">t</B></A><!-- d --><?e?>',
        '<A><!-- c --><B C="1">t<!-- c --></B><?a b?></A>',
        '<A><B C="1"><![CDATA[t]]></B></A>',
        '<A>\n  <B  C = "1" >\n t\r\n</B >\n</A >',
        '<A><B C="&#x31;">&#116;</B></A>',
    ],
)
def test_the_many_forms_of_one_document(body: str) -> None:
    """Namespace, prefix, byte order mark, blanks, comments, CDATA change nothing."""
    assert tree(body) == ("A", {"B": {"@C": "1", "#text": "t"}})


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [("utf-16", "utf-16"), ("latin-1", "ISO-8859-1"), ("ascii", "us-ascii")],
)
def test_declared_encodings_are_honoured(encoding: str, declared: str) -> None:
    """What expat itself can decode is decoded."""
    body = f'<?xml version="1.0" encoding="{declared}"?><A>x</A>'
    assert tree(body.encode(encoding)) == ("A", "x")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<A/>", None),
        ("<A></A>", None),
        ("<Task/>", None),
        ("<A><Link/></A>", {"Link": [None]}),
        ('<A><Link B=""/></A>', {"Link": [{"@B": ""}]}),
        ("<A><Task>1</Task><Task>2</Task></A>", {"Task": ["1", "2"]}),
        ("<A><B/><B/></A>", {"B": [None, None]}),
        ("<A>a<!-- b -->c</A>", "ac"),
        ("<A>a<B/>c</A>", {"B": None, "#text": "ac"}),
    ],
)
def test_none_one_or_many_children(body: str, expected: object) -> None:
    """Links and tasks below the root are lists however many there are."""
    assert tree(body)[1] == expected


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ('<A xmlns="urn:x"/>', "urn:x:A"),
        ('<v:A xmlns:v="urn:x"/>', "urn:x:A"),
        ("<A><B xmlns='urn:x'/></A>", "A"),
    ],
)
def test_foreign_namespaces_stay_apart(body: str, name: str) -> None:
    """An element of another namespace is never taken for one of ours."""
    found, value = tree(body)
    assert found == name
    assert value in (None, {"urn:x:B": None})


def test_nil_keeps_its_name_whatever_the_prefix() -> None:
    """The schema instance namespace is called xsi once it is resolved."""
    body = f'<v:A xmlns:v="{VEEAM}" xmlns:i="{XSI}"><v:B i:nil="true"/></v:A>'
    assert tree(body) == ("A", {"B": {"@xsi:nil": "true"}})


# A published body (page tasks_id), its message as .NET writes a terminal's colours.
COLOURED = (
    '<Task xmlns="http://www.veeam.com/ent/v1.0" Type="Task"'
    ' Href="https://localhost:9398/api/tasks/task-1"><Links>'
    '<Link Rel="Delete" Href="https://localhost:9398/api/tasks/task-1" /></Links>'
    "<TaskId>task-1</TaskId><State>Finished</State><Operation>StartJob</Operation>"
    '<Result Success="false"><Message>&#x1B;[31mfailed&#x1B;[0m</Message></Result>'
    "</Task>"
)


@pytest.mark.parametrize(
    "body",
    [
        COLOURED,
        COLOURED.replace("&#x1B;", "&#27;"),
        COLOURED.replace("&#x1B;", "&#x001b;"),
        COLOURED.replace("&#x1B;", "&#0;"),
        COLOURED.replace("&#x1B;", "&#x" + "0" * 9000 + "FFFE;"),
        COLOURED.replace("&#x1B;", "&#xD800;"),
        COLOURED.replace("&#x1B;", "&#x110000;"),
        COLOURED.replace("&#x1B;", "&#" + "9" * 9000 + ";"),
        COLOURED.replace("Task", "v:Task").replace(
            "xmlns=", f'xmlns="{VEEAM}" xmlns:v='
        ),
        '<?xml version="1.0" encoding="us-ascii"?>' + COLOURED,
    ],
)
def test_a_reference_to_no_character_becomes_the_replacement(body: str) -> None:
    """A task whose message is coloured for a terminal is readable all the same."""
    result = tree(body)[1]["Result"]
    assert result == {"@Success": "false", "Message": "\ufffd[31mfailed\ufffd[0m"}


def test_nothing_but_bad_references_is_replaced() -> None:
    """Good references, and what only looks like one, stay what they are."""
    kept = "a&#x9;&#x20;&#65;&#x10FFFF;&#xFFFD;&amp;#27;<![CDATA[&#27;]]>"
    body = f'<A><!-- &#27; --><?a &#27;?><B C="&#1;">{kept}</B></A>'
    text = "a\t A\U0010ffff\ufffd&#27;&#27;"
    assert tree(body) == ("A", {"B": {"@C": "\ufffd", "#text": text}})


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("<A>&#27;&b;</A>", "it is not well-formed XML (undefined entity"),
        ("<A>&#27;\x1b</A>", "it is not well-formed XML (not well-formed"),
        ("<A>&#27;&#x;</A>", "it is not well-formed XML (not well-formed"),
        ("<A>&#27;</B>", "it is not well-formed XML (mismatched tag"),
        ("<A>&#27;<!-- </A>", "it is not well-formed XML (unclosed token"),
        ("<A>&#27;" + "<B/>" * 9000 + "</A>", "it has more elements than its size"),
        (
            f"<A>{'&#1;' * 4000}{'x' * 10_000}{'<B/>' * 4300}</A>",
            "it has more elements than its size",
        ),
        ("<!DOCTYPE A><A>&#27;</A>", "it has a DOCTYPE"),
        ("<A>" + "&#1;" * 5000 + "</A>", "it is not well-formed XML (reference to inv"),
        ("\ufeff<A>&#27;</A>".encode("utf-16-be"), "it is not well-formed XML (refer"),
        ("<A>&#27;</A>".encode("utf-16-le"), "it is not well-formed XML (reference to"),
        (
            # Two letters of it look like a reference; replaced, all behind would shift.
            "<A>".encode("utf-16-be")
            + b"&#27;N"
            + "&#27;".encode("utf-16-be")
            + b"\0"
            + "</A>".encode("utf-16-be"),
            "it is not well-formed XML (reference to",
        ),
    ],
)
def test_a_bad_reference_excuses_nothing_else(body: str | bytes, problem: str) -> None:
    """Every other rule holds; a text of references alone, and UTF-16, are refused."""
    assert refusal(body).startswith(problem)


@pytest.mark.parametrize("part", ["&#x", "&#0", "<!--", "<![CDATA[", "<?a", "&#1;"])
def test_bad_references_cost_no_more_than_their_length(part: str) -> None:
    """A megabyte made to be tried again and again takes well under a second."""
    started = time.process_time()
    refusal("<A>&#27;" + part * (LIMIT // len(part)))
    refusal("<A>&#27;" + part + "0" * LIMIT)
    assert time.process_time() - started < 2


DEEP = "<A>" * 33 + "</A>" * 33
MANY = "".join(f' a{number}=""' for number in range(65))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("<!DOCTYPE A><A/>", "it has a DOCTYPE"),
        ("<!-- x --><?y?>\n<!DOCTYPE A [<!ENTITY b 'c'>]><A>&b;</A>", "it has a DOCT"),
        ("\ufeff<!DOCTYPE A><A/>".encode("utf-16-le"), "it has a DOCTYPE"),
        (DEEP, "it is nested deeper than 32"),
        (f"<v:A xmlns:v='{VEEAM}'>{DEEP}</v:A>", "it is nested deeper than 32"),
        (f"<A{MANY}/>", "an element has more than 64 attributes"),
        (f"<A><B{MANY}/></A>", "an element has more than 64 attributes"),
        ("<A>" + "<B/>" * 9000 + "</A>", "it has more elements than its size can mean"),
        (f"<v:A xmlns:v='{'u' * 129}'/>", "a namespace is longer than 128"),
        ("<v:A/>", "it is not well-formed XML (unbound prefix"),
        ("<A>", "it is not well-formed XML (no element found"),
        ("<A></B>", "it is not well-formed XML (mismatched tag"),
        ("<A>&b;</A>", "it is not well-formed XML (undefined entity"),
        ("<A>\x00</A>", "it is not well-formed XML"),
        (b"<A>\xff</A>", "it is not well-formed XML"),
        ("<A/><A/>", "it is not well-formed XML (junk after document element"),
        ("<A b='' b=''/>", "it is not well-formed XML (duplicate attribute"),
        ("<?xml version='1.0' encoding='utf-7'?><A/>", "its encoding is not supported"),
        (
            "<?xml version='1.0' encoding='unicode_escape'?><A/>",
            "its encoding is not supported: unicode_escape",
        ),
        ("<?xml version='1.0' encoding='utf-16'?><A/>", "it is not well-formed XML"),
    ],
)
def test_xml_that_is_refused(body: str | bytes, problem: str) -> None:
    """DOCTYPE, limits, ill-formed text and odd encodings are refused in words."""
    assert refusal(body).startswith(problem)


def test_a_doctype_within_a_text_is_a_text() -> None:
    """Only the DOCTYPE before the root is one."""
    assert tree("<A><![CDATA[<!DOCTYPE A>]]></A>") == ("A", "<!DOCTYPE A>")


def test_the_limits_themselves_are_allowed() -> None:
    """A depth of 32 and 64 attributes still pass, in XML and in JSON."""
    assert tree("<A>" * 32 + "</A>" * 32)[0] == "A"
    assert len(tree(f"<A{MANY[:-7]}/>")[1]) == 64
    deep = '{"A":' * 31 + "[]" + "}" * 31
    assert tree(deep, "application/json")[0] == ""
    wide = json.dumps(dict.fromkeys(map(str, range(64)), 0))
    assert len(tree(wide, "application/json")[1]) == 64


def test_a_body_may_be_nested_as_deep_as_a_reply() -> None:
    """What can be sent can be read; one level more is refused."""
    body: dict[str, Any] = {"A": "x"}
    for _ in range(31):
        body = {"A": body}
    assert encode(body).count(b"<A") == 32
    with pytest.raises(ArgumentError, match="nested deeper than 32"):
        encode({"A": body})


# --- JSON


def test_names_of_json_are_brought_into_the_shape_of_xml() -> None:
    """Any case of a name counts; other names stay apart; null is absent."""
    body = '{"TASKID":"a","links":[{"rEl":"b","Href":null}],"Other":1,"tasks":null}'
    assert tree(body, "application/json") == (
        "",
        {"TaskId": "a", "Links": [{"@Rel": "b"}], "?Other": 1, "Tasks": None},
    )


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (r'{"State":"\ud83d\ude00"}', "\U0001f600"),
        (r'{"State":"a\ud83d"}', "a\ufffd"),
        (r'{"State":"\uDE00\ud83d\uDE00"}', "\ufffd\U0001f600"),
        (r'{"State":"\\ud83d"}', r"\ud83d"),
        (r'{"State":"\\\ud83d\u0041"}', "\\\ufffdA"),
        ('{"State":"ä"}', "ä"),
        ('\ufeff \n{"State":"x"}', "x"),
    ],
)
def test_texts_of_json_can_be_encoded(body: str, text: str) -> None:
    """Half a surrogate pair is replaced, so that no later print fails."""
    assert tree(body, "application/json") == ("", {"State": text})


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("[]", "its root is not a JSON object"),
        ('{"a":1', "it cannot be read (JSONDecodeError: Expecting"),
        ("{'a':1}", "it cannot be read (JSONDecodeError: Expecting"),
        (b'{"a":"\xff"}', "it cannot be read (UnicodeDecodeError: invalid start byte"),
        ('{"a":"\x00"}', "it cannot be read (JSONDecodeError: Invalid control"),
        ('{"a":NaN}', "a number is out of bounds: NaN"),
        ('{"a":-Infinity}', "a number is out of bounds: -Infinity"),
        ('{"a":1e999}', "a number is out of bounds: 1e999"),
        ('{"a":' + "1" * 65 + "}", "a number is out of bounds: 111"),
        ('{"a":1.' + "1" * 65 + "}", "a number is out of bounds: 1.1"),
        ('{"State":1,"state":2}', "a member stands twice in one object: state"),
        ('{"a":1,"a":2}', "a member stands twice in one object: a"),
        ('{"a":' + "[" * 32 + "]" * 32 + "}", "it is nested deeper than 32"),
        ("[" * 100_000, "it is nested deeper than 32"),
        (
            json.dumps(dict.fromkeys(map(str, range(65)), 0)),
            "an object has more than 64 members",
        ),
    ],
)
def test_json_that_is_refused(body: str | bytes, problem: str) -> None:
    """Limits, doubles, endless numbers and ill-formed text are refused in words."""
    assert refusal(body, "application/json").startswith(problem)


# --- as it is


def test_a_resource_in_xml_is_what_xmltodict_gives() -> None:
    """With its root, without namespaces, links as a list."""
    body = (
        f'<RestoreSession xmlns="{VEEAM}" xmlns:xsi="{XSI}" Name="x"><Links>'
        '<Link Rel="Up"/></Links><State>Stopped</State></RestoreSession>'
    )
    assert parse_as_is(reply(body.encode()), SECRETS) == {
        "RestoreSession": {
            "@Name": "x",
            "Links": {"Link": [{"@Rel": "Up"}]},
            "State": "Stopped",
        }
    }


def test_a_resource_in_json_is_left_as_it_is() -> None:
    """Names, nulls and numbers stay."""
    value = {"Name": None, "links": [{"Rel": "Up"}], "size": 1, "part": 0.5}
    body = json.dumps(value).encode()
    assert parse_as_is(reply(body, "application/json"), SECRETS) == value


@pytest.mark.parametrize("body", [b'{"a":{"b":1,"b":2}}', b"[]", b'{"a":NaN}'])
def test_a_resource_in_json_has_the_same_limits(body: bytes) -> None:
    """Doubles and other roots are refused there as well."""
    with pytest.raises(MalformedReplyError):
        parse_as_is(reply(body, "application/json"), SECRETS)


# --- request bodies


class Word(str, enum.Enum):  # noqa: UP042 - the older form, whose str() differs
    """A word that is a string."""

    FULL = "Full"


def test_a_mapping_becomes_xml_in_its_order() -> None:
    """The published body of a job's clone, as the reference prints it."""
    body = {
        "JobCloneSpec": {
            "BackupJobCloneInfo": MappingProxyType(
                {
                    "JobName": "Copy",
                    "FolderName": "Copy",
                    "RepositoryUid": "urn:veeam:Repository:cbd9",
                    "Description": "d",
                }
            )
        }
    }
    assert encode(body) == (
        b'<?xml version="1.0" encoding="utf-8"?>\n'
        b'<JobCloneSpec xmlns="http://www.veeam.com/ent/v1.0"><BackupJobCloneInfo>'
        b"<JobName>Copy</JobName><FolderName>Copy</FolderName>"
        b"<RepositoryUid>urn:veeam:Repository:cbd9</RepositoryUid>"
        b"<Description>d</Description></BackupJobCloneInfo></JobCloneSpec>"
    )


@pytest.mark.parametrize(
    ("body", "written"),
    [
        ({"A": None}, f'<A xmlns="{VEEAM}"></A>'),
        ({"A": {}}, f'<A xmlns="{VEEAM}"></A>'),
        ({"A": "b & <c>"}, f'<A xmlns="{VEEAM}">b &amp; &lt;c&gt;</A>'),
        ({"A": {"@xmlns": "urn:x"}}, '<A xmlns="urn:x"></A>'),
        ({"A": {"@b": 'c"d'}}, f"""<A xmlns="{VEEAM}" b='c"d'></A>"""),
        ({"A": {"B": [1, True]}}, f'<A xmlns="{VEEAM}"><B>1</B><B>true</B></A>'),
        ({"A": {"B": (0.5, None)}}, f'<A xmlns="{VEEAM}"><B>0.5</B><B></B></A>'),
        ({"A": {"B": Word.FULL}}, f'<A xmlns="{VEEAM}"><B>Full</B></A>'),
        (
            {"A": {"B": {"@xsi:nil": "true", "#text": "ä"}}},
            f'<A xmlns="{VEEAM}"><B xsi:nil="true">ä</B></A>',
        ),
    ],
)
def test_what_a_mapping_may_hold(body: Mapping[str, object], written: str) -> None:
    """Attributes, texts, lists, numbers and none; the namespace unless given."""
    assert encode(body).decode().partition("\n")[2] == written


LOOP: dict[str, object] = {}
LOOP["A"] = LOOP


@pytest.mark.parametrize(
    ("body", "error", "text"),
    [
        ([("A", 1)], TypeError, "a body must be a mapping, not list"),
        ({}, ValueError, "a body has exactly one root element, not 0"),
        ({"A": 1, "B": 2}, ValueError, "a body has exactly one root element, not 2"),
        ({"A": [1]}, ValueError, "a body has exactly one root element; 'A' is none"),
        ({"@A": 1}, ValueError, "a body has exactly one root element; '@A' is none"),
        ({"#text": "a"}, ValueError, "a body has exactly one root element; '#text'"),
        ({1: 1}, TypeError, "a name must be a string, not int"),
        ({"A": {2: 1}}, TypeError, "a name must be a string, not int"),
        ({"A b": 1}, ValueError, "'A b' is no name of an XML element or attribute"),
        ({"A": {"": 1}}, ValueError, "'' is no name of an XML element or attribute"),
        ({"A": {"#comment": 1}}, ValueError, "'#comment' is no name"),
        ({"A": {"B": b"x"}}, TypeError, "B: bytes has no form in XML"),
        ({"A": {"@b": {}}}, TypeError, "@b: dict has no form in XML"),
        ({"A": {"@b": []}}, TypeError, "@b: list has no form in XML"),
        ({"A": {"#text": {}}}, TypeError, "#text: dict has no form in XML"),
        ({"A": {"B": [[1]]}}, TypeError, "B: a list in a list has no form in XML"),
        ({"A": {"B": "\x00"}}, ValueError, r"B: the character '\x00' is not allowed"),
        ({"A": {"B": "\ud800"}}, ValueError, r"B: the character '\ud800' is not"),
        ({"A": {"B": float("nan")}}, ValueError, "B: nan has no form in XML"),
        (
            {"A": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)},
            TypeError,
            "A: datetime has no form in XML",
        ),
        (LOOP, ValueError, "a body must not be nested deeper than 32"),
    ],
)
def test_what_a_mapping_may_not_hold(
    body: Any, error: type[Exception], text: str
) -> None:
    """Whatever has no form in XML is refused in words before anything is sent."""
    with pytest.raises(error) as caught:
        encode(body)
    assert str(caught.value).removeprefix("body: ").startswith(text)
    is_value = isinstance(caught.value, ArgumentError)
    assert is_value is (error is ValueError)
    assert not is_value or caught.value.parameter == "body"


MEBI = 1 << 20
EXPANDING: dict[str, tuple[Callable[[], bytes], str]] = {
    "entities": (
        lambda: (
            b'<!DOCTYPE Task [<!ENTITY e0 "x">'
            + b"".join(
                b'<!ENTITY e%d "%s">' % (number, b"&e%d;" % (number - 1) * 10)
                for number in range(1, 10)
            )
            + b"]><Task>&e9;</Task>"
        ),
        "it has a DOCTYPE",
    ),
    "depth": (lambda: b"<a>" * (5 * MEBI), "nested deeper than 32"),
    "attributes": (
        lambda: b"<Tasks><a" + b' a=""' * (3 * MEBI) + b"/></Tasks>",
        "more than 64 attributes",
    ),
    "elements": (lambda: b"<Tasks>" + b"<a/>" * MEBI, "more elements than"),
    "JSON depth": (lambda: b"[" * (15 * MEBI), "nested deeper than 32"),
    "JSON objects": (
        lambda: b'{"Tasks":[' + b"{}," * (5 * MEBI) + b"{}]}",
        "more objects than",
    ),
}


@pytest.mark.parametrize("name", EXPANDING)
def test_what_grows_when_it_is_read_is_refused_before(name: str) -> None:
    """Many mebibytes of it hold less than eighty."""
    make, said = EXPANDING[name]
    kind = "application/json" if name.startswith("JSON") else "application/xml"
    given = reply(make(), kind)
    tracemalloc.start(1)
    try:
        with pytest.raises(MalformedReplyError, match=said):
            parse(given, SECRETS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 80 * MEBI

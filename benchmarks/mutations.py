"""Small faults that can be put into Python source, each at one place."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

BOUNDARIES = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">"}
OPPOSITES = {
    ast.Lt: ">=",
    ast.LtE: ">",
    ast.Gt: "<=",
    ast.GtE: "<",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
ARITHMETIC = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.Mod: "*"}
OTHER_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
OF_THE_LOG = {"debug", "info", "warning"}
UNORDERED = {"isinstance", "issubclass", "min", "max"}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Change = tuple[ast.expr | ast.stmt, str]


@dataclass(frozen=True)
class Mutant:
    """A file with the text between two bytes replaced."""

    path: str
    line: int
    start: int
    end: int
    new: str
    name: str
    """Names it as long as this code is in this function, wherever that moves."""

    def applied(self, source: str) -> str:
        """Return the file with the fault in it."""
        raw = source.encode()
        return (raw[: self.start] + self.new.encode() + raw[self.end :]).decode()


class Finder:
    """Finds every mutant of a file."""

    def __init__(self, path: str, source: str) -> None:
        self.path = path
        self.raw = source.encode()
        lines = self.raw.splitlines(keepends=True)
        self.starts = [0, *accumulate(map(len, lines))]

    def all(self) -> list[Mutant]:
        """Return the mutants, no two of the same name."""
        found = self._found(ast.parse(self.raw), "")
        return list({one.name: one for one in found}.values())

    def _found(self, node: ast.AST, where: str) -> Iterator[Mutant]:
        if isinstance(node, ast.ClassDef | Function):
            where = f"{where}.{node.name}" if where else node.name
        for what, new in self._changes(node):
            if new == self.text(what):
                continue  # two arguments that are the same
            yield self._mutant(what, new, where or "module")
        for child in children(node):
            yield from self._found(child, where)

    def _mutant(self, what: ast.expr | ast.stmt, new: str, where: str) -> Mutant:
        start, end = self._span(what)
        first, last = self.starts[what.lineno - 1], self.starts[what.end_lineno or 0]
        old = self.raw[first:last].decode()
        changed = (self.raw[first:start] + new.encode() + self.raw[end:last]).decode()
        shown = " ==> ".join(" ".join(text.split()) for text in (old, changed))
        name = f"{self.path} {where}: {shown}"
        return Mutant(self.path, what.lineno, start, end, new, name)

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self.starts[node.lineno - 1] + node.col_offset
        return start, self.starts[node.end_lineno - 1] + node.end_col_offset

    def text(self, node: ast.expr | ast.stmt) -> str:
        """Return a node as it is written."""
        start, end = self._span(node)
        return self.raw[start:end].decode()

    def _changes(self, node: ast.AST) -> Iterator[Change]:
        match node:
            case ast.Call():
                yield from self._of_call(node)
            case ast.expr():
                yield from self._of_expression(node)
            case ast.stmt():
                yield from of_statement(node)
            case ast.ExceptHandler(ast.Tuple(elts=[*most, _]) as caught):
                yield caught, f"({''.join(f'{self.text(one)}, ' for one in most)})"
            case ast.ExceptHandler(ast.expr() as caught):
                yield caught, "()"
        if isinstance(node, ast.If | ast.While | ast.IfExp) and not isinstance(
            node.test, ast.Compare | ast.UnaryOp
        ):
            yield node.test, f"(not ({self.text(node.test)}))"

    def _of_expression(self, node: ast.expr) -> Iterator[Change]:
        match node:
            case ast.Compare(left, [op], [right]):
                for texts in (BOUNDARIES, OPPOSITES):
                    if type(op) in texts:
                        new = f"{self.text(left)} {texts[type(op)]} {self.text(right)}"
                        yield node, f"({new})"
            case ast.BoolOp(op, values):
                word = " or " if isinstance(op, ast.And) else " and "
                yield node, f"({word.join(f'({self.text(one)})' for one in values)})"
            case ast.UnaryOp(ast.Not(), operand):
                yield node, f"({self.text(operand)})"
            case ast.BinOp(left, op, right) if type(op) in ARITHMETIC:
                sign = ARITHMETIC[type(op)]
                yield node, f"(({self.text(left)}) {sign} ({self.text(right)}))"
            case ast.Constant(bool() as value):
                yield node, str(not value)
            case ast.Constant(int() | float() as value):
                yield node, f"({value!r} + 1)"
                yield node, f"({value!r} - 1)"

    def _of_call(self, node: ast.Call) -> Iterator[Change]:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in OTHER_NAMES:
            yield node.func, OTHER_NAMES[name]
        if len(node.args) > 1 and name not in UNORDERED:
            one, other, *rest = map(self.text, node.args)
            named = [
                f"{f'{word.arg}=' if word.arg else '**'}{self.text(word.value)}"
                for word in node.keywords
            ]
            given = ", ".join((other, one, *rest, *named))
            yield node, f"{self.text(node.func)}({given})"


def of_statement(node: ast.stmt) -> Iterator[Change]:
    """Return what may become of a statement as a whole."""
    match node:
        case ast.Return(ast.expr() as value) if not is_none(value):
            yield value, "None"
        case ast.Break():
            yield node, "continue"
        case ast.Continue():
            yield node, "break"
        case ast.Expr(ast.Call() | ast.Await()) if not is_logged(node.value):
            yield node, "pass"
        case ast.Raise() | ast.AugAssign() | ast.Delete():
            yield node, "pass"
        case ast.Assign([ast.Attribute() | ast.Subscript()]):
            yield node, "pass"  # without a local name the next line would fail


def children(node: ast.AST) -> Iterator[ast.AST]:
    """Return what may be changed within a node."""
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "type_params"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.Assert):
                continue
            if isinstance(child, Function) and child.name == "__repr__":
                continue
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.JoinedStr):  # places in it are not told by 3.11
                continue
            if isinstance(child, ast.Expr) and is_logged(child.value):
                continue
            yield child


def is_none(node: ast.expr) -> bool:
    """Tell whether None is what is written."""
    return isinstance(node, ast.Constant) and node.value is None


def is_logged(node: ast.expr) -> bool:
    """Tell whether a line of the log is what is written."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in OF_THE_LOG
    )

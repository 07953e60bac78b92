"""Write a module of the READMEs' Python, for type checkers: ``readme.py MODULE``.

Each block becomes a function. Blocks that are only a part of a program take what they
do not make themselves as arguments.
"""

import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "veeam_tasks"
READMES = (
    ROOT / "README.md",
    PACKAGE / "EXAMPLES.md",
    *(PACKAGE / name / "README.md" for name in ("metrics", "report", "simulator")),
)
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)

HEAD = '''"""The Python of the READMEs; written by `tests/typing/readme.py`."""

import veeam_tasks as vt
from veeam_tasks.simulator import SimulatedServer
'''
GIVEN = (
    "em: vt.SessionManager, another: vt.SessionManager,"
    " managers: list[vt.SessionManager], watch: vt.Watch, url: str, secret: str,"
    " actions: list[str]"
)


def module() -> str:
    """Return the module."""
    parts = [HEAD]
    for readme in READMES:
        text = readme.read_text(encoding="utf-8")
        for found in BLOCK.finditer(text):
            code = textwrap.dedent(found["code"])
            line = text.count("\n", 0, found.start()) + 1
            where = readme.relative_to(ROOT).as_posix()
            name = re.sub(r"\W", "_", f"{where}_{line}").lower()
            # A whole program runs its own loop.
            is_part = "asyncio.run(" not in code
            head = f"async def {name}({GIVEN}) -> None:" if is_part else ""
            head = head or f"def {name}() -> None:"
            parts.append(
                f"# {where}, line {line}\n{head}\n{textwrap.indent(code, '    ')}"
            )
    return "\n\n".join(parts)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(module(), encoding="utf-8")

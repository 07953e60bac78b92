"""Commands whose help is a screen: what they do first, the rest in groups.

``--help`` tells what a command does, its own options and an example, in 24 lines;
``veeam-tasks help COMMAND`` explains every option.
"""

import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Final

import click

FOLLOW: Final = "Job"
UNATTENDED: Final = "Unattended"
CONNECTION: Final = "Connection"
TRUST: Final = "Trust"
OUTPUT: Final = "Output"
PACE: Final = "Pace"
SIMULATION: Final = "Simulation"
_GROUPS: Final = (FOLLOW, UNATTENDED, PACE, SIMULATION, CONNECTION, TRUST, OUTPUT)
_UNIT: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|m|min|h|d)?", re.ASCII)
_UNITS: Final = {None: 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType[float]):
    """Seconds, or numbers with units: ``90``, ``90s``, ``10m``, ``1h30m``."""

    name = "seconds"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Return the seconds."""
        if isinstance(value, int | float):
            return float(value)
        text = str(value).strip()
        found = list(_UNIT.finditer(text))
        parts = [(float(one[1]), one[2]) for one in found]
        # Of several parts each needs its unit, and the larger comes first.
        sizes = [_UNITS[unit] for _, unit in parts]
        is_whole = "".join(one[0] for one in found) == text and bool(found)
        is_ordered = sizes == sorted(set(sizes), reverse=True)
        is_named = len(parts) == 1 or all(unit for _, unit in parts)
        seconds = sum(
            number * size for (number, _), size in zip(parts, sizes, strict=True)
        )
        if not (is_whole and is_ordered and is_named) or seconds == float("inf"):
            self.fail(
                f"{value!r} is no duration: write 90, 90s, 10m or 2h, or 1h30m",
                param,
                ctx,
            )
        return seconds


class WholeNumber(click.IntRange):
    """A whole number from `min` to `max`, told of as people say it."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the number."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            text = f"{value!r} is no whole number from {self.min} to {self.max}"
        raise click.BadParameter(text, ctx, param)


class Number(click.FloatRange):
    """A number from `min` to `max`, told of as people say it."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        with suppress(click.BadParameter):
            number = super().convert(value, param, ctx)
            if not math.isnan(number):  # which is in any range
                return number
        text = f"{value!r} is no number from {self.min} to {self.max}"
        raise click.BadParameter(text, ctx, param)


class Option(click.Option):
    """An option that stands in a group of the help; without one it is essential."""

    def __init__(self, *args: Any, group: str = "", **more: Any) -> None:
        super().__init__(*args, **more)
        self.group = group

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Return what stands in brackets; not the range, which the text tells."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra


def option(*names: str, group: str = "", **more: Any) -> Callable[[Any], Any]:
    """Give a command an option of a group; see `click.option`."""
    return click.option(*names, cls=Option, group=group, **more)


class Command(click.Command):
    """A command with examples and with two sizes of help."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **more: Any) -> None:
        super().__init__(*args, **more)
        self.examples = tuple(examples)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what fits a screen."""
        self.format_usage(ctx, formatter)
        first = (self.help or "").partition("\n\n")[0]
        with formatter.indentation():
            formatter.write_paragraph()
            formatter.write_text(first)
        self._write_options(ctx, formatter, "", is_brief=True)
        self._write_examples(formatter)
        self._write_names(ctx, formatter)

    def whole_help(self, ctx: click.Context) -> str:
        """Return the help with every option explained, in groups."""
        formatter = ctx.make_formatter()
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        self._write_examples(formatter)
        for group in ("", *_GROUPS):
            self._write_options(ctx, formatter, group)
        return formatter.getvalue().rstrip("\n")

    def _of_group(self, ctx: click.Context, group: str) -> list[click.Parameter]:
        return [
            one
            for one in self.get_params(ctx)
            if getattr(one, "group", "") == group and one.param_type_name == "option"
        ]

    def _write_options(
        self,
        ctx: click.Context,
        formatter: click.HelpFormatter,
        group: str,
        *,
        is_brief: bool = False,
    ) -> None:
        records = [
            one.get_help_record(ctx)
            for one in self._of_group(ctx, group)
            if not (is_brief and "--help" in one.opts)
        ]
        found = [record for record in records if record is not None]
        if found:
            with formatter.section(group or "Options"):
                formatter.write_dl(found)

    def _write_examples(self, formatter: click.HelpFormatter) -> None:
        if not self.examples:
            return
        with formatter.section("Examples"):
            for line in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")

    def _write_names(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the names of the options that are explained elsewhere."""
        names = [
            "/".join(max(words, key=len) for words in _both(one))
            for group in _GROUPS
            for one in self._of_group(ctx, group)
        ]
        if not names:
            return
        text = f"More, see 'veeam-tasks help {ctx.info_name}': {' '.join(names)}"
        lines = textwrap.wrap(text, formatter.width, break_on_hyphens=False)
        formatter.write("\n" + "".join(f"{line}\n" for line in lines))


def _both(one: click.Parameter) -> list[list[str]]:
    """Return the names of an option; of a switch those of its two sides."""
    return [words for words in (one.opts, one.secondary_opts) if words]


class Group(click.Group):
    """The group of all commands; takes options that were written before them."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the commands in the order in which one needs them."""
        return list(self.commands)

    def format_options(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write the commands; the two options are told in the text."""
        self.format_commands(ctx, formatter)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Move options of a command that stand before its name behind it."""
        return super().parse_args(ctx, self._moved(ctx, args))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; name the nearest one for a typo.

        Raises:
            click.UsageError: There is no such command.
        """
        name = args[0]
        is_known = name.startswith("-") or self.get_command(ctx, name) is not None
        if not (is_known or ctx.resilient_parsing):
            near = get_close_matches(name, self.list_commands(ctx), 1)
            hint = (
                f"did you mean {near[0]!r}?" if near else "'veeam-tasks help' lists all"
            )
            text = f"there is no command {name!r}; {hint}"
            raise click.UsageError(text, ctx)
        return super().resolve_command(ctx, args)

    def _moved(self, ctx: click.Context, args: list[str]) -> list[str]:
        ours = {name for one in self.get_params(ctx) for name in one.opts}
        if not args or not args[0].startswith("-") or args[0] in ours:
            return args  # without loading every command
        flags, valued = self._options()
        at = 0
        while at < len(args) and args[at].startswith("-") and args[at] not in ours:
            name = args[at].partition("=")[0]
            if name not in flags | valued:
                return args
            at += 2 if name in valued and "=" not in args[at] else 1
        if 0 < at < len(args):
            return [args[at], *args[:at], *args[at + 1 :]]
        if at:
            names = ", ".join(word for word in args if word.startswith("-"))
            text = f"{names} goes with a command: veeam-tasks COMMAND {names}"
            raise click.UsageError(text, ctx)
        return args

    def all_commands(self) -> list[click.Command]:
        """Return all commands."""
        return list(self.commands.values())

    def _options(self) -> tuple[set[str], set[str]]:
        """Return the options of all commands: those without and with a value."""
        flags: set[str] = set()
        valued: set[str] = set()
        for command in self.all_commands():
            for one in command.params:
                if isinstance(one, click.Option):
                    is_flag = one.is_flag or one.count
                    (flags if is_flag else valued).update(
                        [*one.opts, *one.secondary_opts]
                    )
        return flags, valued


class LazyGroup(Group):
    """A group whose commands are loaded when they are used, not to be listed.

    Args:
        places: By name: the module in this package, the name in it, and one line.
    """

    def __init__(
        self, *args: Any, places: Mapping[str, tuple[str, str, str]], **more: Any
    ) -> None:
        super().__init__(*args, **more)
        self.places = dict(places)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all, in the order of the table."""
        return list(dict.fromkeys([*self.places, *super().list_commands(ctx)]))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, loaded if it was not yet."""
        if cmd_name not in self.commands and cmd_name in self.places:
            module, name, _ = self.places[cmd_name]
            found = getattr(import_module(f"veeam_tasks.cli.{module}"), name)
            self.add_command(found, cmd_name)
        return super().get_command(ctx, cmd_name)

    def all_commands(self) -> list[click.Command]:
        """Load and return all commands."""
        context = click.Context(self)
        found = [
            self.get_command(context, name) for name in self.list_commands(context)
        ]
        return [command for command in found if command is not None]

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write a line for each command, as click does, but from the table."""
        rows = [
            (name, self.places[name][2] if name in self.places else _line(self, name))
            for name in self.list_commands(ctx)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _line(group: click.Group, name: str) -> str:
    return group.commands[name].get_short_help_str()

"""Figures, each with its goal beside it, and whether all goals were reached."""

import attrs


@attrs.define
class Figures:
    """What a run found out.

    Attributes:
        missed: The names of figures that did not reach their goals.
    """

    missed: list[str] = attrs.field(init=False, factory=list)

    def fact(self, name: str, value: object) -> None:
        """Print a figure that has no goal."""
        print(f"{name:<62} {value}", flush=True)

    def exact(self, name: str, value: object, goal: object) -> None:
        """Print a figure that must be `goal`."""
        self._judge(name, value, str(goal), reached=value == goal)

    def at_most(self, name: str, value: float, goal: float) -> None:
        """Print a figure that may not be higher than `goal`."""
        self._judge(name, value, f"at most {goal}", reached=value <= goal)

    def at_least(self, name: str, value: float, goal: float) -> None:
        """Print a figure that may not be lower than `goal`."""
        self._judge(name, value, f"at least {goal}", reached=value >= goal)

    def _judge(self, name: str, value: object, goal: str, *, reached: bool) -> None:
        if not reached:
            self.missed.append(name)
        word = "reached" if reached else "MISSED"
        self.fact(name, f"{value}   (goal: {goal}; {word})")

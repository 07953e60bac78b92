"""A report that people look at: one HTML file of what a watch delivered.

Needs the extra ``report`` (jinja2). `Recorder` keeps what was delivered, `render` makes
the page of it, `write` puts it into a file at once.
"""

from veeam_tasks.report._page import render, write
from veeam_tasks.report._recorder import Recorder

__all__ = ["Recorder", "render", "write"]

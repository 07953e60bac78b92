"""Watch the tasks of a Veeam Backup Enterprise Manager."""

__version__ = "0.1.0"

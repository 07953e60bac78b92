"""A provider for Apache Airflow, from 3.3 on; see the README beside this file.

Nothing is imported here: `_info` is read by every ``airflow`` command.
"""

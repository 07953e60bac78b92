"""Documentation of the action plugin of this name, which does the work."""

DOCUMENTATION = r"""
module: logon
short_description: Open a logon session that the tasks of a play share
version_added: 0.2.0
description:
  - Logs on once and leaves the logon session open. Later tasks of this host use it without being told,
    through the variable C(veeam_em_logon).
  - A task of the server belongs to the logon session that started it, so it takes a shared one to start
    in one place and wait in another.
  - The server ends it after 15 idle minutes; M(veeam_tasks.em.logout) ends it at once. It is never renewed.
    For a wait of hours let M(veeam_tasks.em.actions) log on itself, which is one logon as well.
  - The result is hidden from the output, since a token is worth a password. If you register it, do not print it.
extends_documentation_fragment:
  - veeam_tasks.em.connection
attributes:
  check_mode:
    description: It logs on in check mode, too, since later tasks need it to say what they would do.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
  facts:
    description: Sets C(veeam_em_logon). It is kept in memory for this run and goes into no fact cache.
    support: full
seealso:
  - module: veeam_tasks.em.logout
"""

EXAMPLES = r"""
- name: Log on as the vault says
  veeam_tasks.em.logon:
    url: https://em.example:9398
    username: CORP\svc
    password: "{{ vault_em_password }}"
    fingerprint: "{{ em_fingerprint }}"

- name: Use it
  veeam_tasks.em.jobs:
"""

RETURN = r"""
logon:
  description: What the option O(logon) of other tasks takes; secret.
  returned: success
  type: dict
  contains:
    url:
      description: Where the server is.
      type: str
    token:
      description: The token of the logon session.
      type: str
    session_id:
      description: Its ID.
      type: str
"""

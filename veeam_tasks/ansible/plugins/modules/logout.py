"""Documentation of the action plugin of this name, which does the work."""

DOCUMENTATION = r"""
module: logout
short_description: End a shared logon session
version_added: 0.2.0
description:
  - Ends the logon session that M(veeam_tasks.em.logon) opened. It needs no password.
  - One that has ended already, or none, is no failure. What was started goes on at the server.
extends_documentation_fragment:
  - veeam_tasks.em.connection
attributes:
  check_mode:
    description: It logs out in check mode, too, as M(veeam_tasks.em.logon) logs on.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
seealso:
  - module: veeam_tasks.em.logon
"""

EXAMPLES = r"""
- name: Log out, whatever went before
  veeam_tasks.em.logout:
"""

RETURN = r"""
msg:
  description: Whether it has ended now, had ended already, or was not there.
  returned: success
  type: str
"""

"""Documentation of the action plugin of this name, which does the work."""

DOCUMENTATION = r"""
module: jobs
short_description: List the jobs of an Enterprise Manager
version_added: 0.2.0
description:
  - Lists backup, replication, agent and NAS jobs with their IDs, whether their schedules are on, and how
    their last job sessions ended.
extends_documentation_fragment:
  - veeam_tasks.em.connection
options:
  names:
    description:
      - Only these, in this order. The whole name or the ID counts most, then the name without regard to case,
        then a unique beginning of it.
      - A name without a job, or with more than one, is a failure.
    type: list
    elements: str
  results:
    description: Whether to ask how the last job sessions ended.
    type: bool
    default: true
attributes:
  check_mode:
    description: It only reads.
    support: full
  diff_mode:
    description: It changes nothing.
    support: none
seealso:
  - module: veeam_tasks.em.actions
"""

EXAMPLES = r"""
- name: Read all jobs
  veeam_tasks.em.jobs:
  register: all

- name: Start those that failed last night
  veeam_tasks.em.actions:
    jobs: "{{ all.jobs | selectattr('last_result', 'equalto', 'Failed') | map(attribute='name') | list }}"
    action: retry
"""

RETURN = r"""
jobs:
  description: The jobs, in the order of their names or of O(names).
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    kind:
      description: What it does, for example V(Backup).
      type: str
    id:
      description: Its ID.
      type: str
    path:
      description: Where it is, below C(/api/).
      type: str
    enabled:
      description: Whether its schedule is on; null if the server does not say.
      type: bool
    last_result:
      description: How its newest job session ended, or where it stands; null if it is not among the newest 500.
      type: str
"""

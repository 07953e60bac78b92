"""Documentation of the action plugin of this name, which does the work."""

DOCUMENTATION = r"""
module: actions
short_description: Send actions to an Enterprise Manager and wait for their ends
version_added: 0.2.0
description:
  - Sends any number of actions over one logon session, waits for all of them at once, and gives one report.
  - All jobs are found before the first action is sent, so a wrong name starts nothing.
  - Each action is sent once. One that the server refuses leaves the others alone. Where no clear answer comes
    it may have been carried out all the same. It is told as C(uncertain), and nothing more is sent.
  - With C(-v) a line tells of each new state at once, with C(-vv) of all progress.
  - A wait rides out outages. An account that is refused is never tried again.
  - A task of the server that starts a job ends when the job has begun. With O(follow) it is the job session that
    counts, so that the play fails where a backup failed, with the reason of each machine.
  - If the play is stopped or O(timeout) is over, what was started goes on at the server.
extends_documentation_fragment:
  - veeam_tasks.em.connection
options:
  jobs:
    description: Names of jobs, as O(actions[].job) has them; O(action) is done with each.
    type: list
    elements: str
  action:
    description: What to do with O(jobs).
    type: str
    choices: [start, stop, retry, sync, toggleScheduleEnabled]
    default: start
  actions:
    description: What else to do, after O(jobs), in this order.
    type: list
    elements: dict
    suboptions:
      job:
        description:
          - A job. The whole name or the ID counts most, then the name without regard to case, then a unique
            beginning of it. By its ID it is looked up only where its schedule is toggled.
        type: str
      action:
        description: What to do with the job; V(start) if not said.
        type: str
        choices: [start, stop, retry, sync, toggleScheduleEnabled]
      path:
        description:
          - Any action that the server answers with a task, as what stands below C(/api/), for example
            V(backupServers/ID?action=collect). C(veeam-tasks actions) lists them.
        type: str
      method:
        description: How to send it.
        type: str
        choices: [POST, PUT, DELETE]
        default: POST
      body:
        description: What to send with it, as XML or as a mapping of its one root element, whose order is kept.
        type: raw
  resume:
    description:
      - What an earlier task of the play had in its result under RV(resume), to wait for what it had sent, too.
        Nothing is sent again.
      - Both need the same logon session (see M(veeam_tasks.em.logon)). Under another one only jobs that had begun are found.
    type: dict
  wait:
    description: Whether to wait. If V(false), RV(resume) is what O(resume) takes later.
    type: bool
    default: true
  follow:
    description:
      - Whether to wait for the ends of the jobs that were started, instead of the ends of the starts.
      - An action that starts no job session ends with its task.
    type: bool
    default: true
  find_timeout:
    description: How long to search for the job session of a task that has ended. The Enterprise Manager may learn of it late.
    type: str
    default: 20m
  timeout:
    description: How long to wait, for example V(90), V(20m) or V(4h30m); for ever if not said.
    type: str
  patience:
    description: How long the server may be away before the wait is given up; for ever if not said.
    type: str
  warnings_fail:
    description: Whether a job that ended with Warning is a failure.
    type: bool
    default: false
attributes:
  check_mode:
    description: It logs on, finds the jobs, and says what would be sent.
    support: full
  diff_mode:
    description: Shows what is sent, and for a schedule that is toggled what it was and will be.
    support: full
seealso:
  - module: veeam_tasks.em.logon
  - module: veeam_tasks.em.jobs
"""

EXAMPLES = r"""
- name: Run a night's jobs
  veeam_tasks.em.actions:
    jobs:
      - SQL Replication
      - Oracle Backup
    timeout: 6h
  register: night

- name: Send whatever the server takes
  veeam_tasks.em.actions:
    actions:
      - job: Oracle Backup
        action: stop
      - path: backupServers/7caf66d5-f700-442c-9aa9-8867f031377f?action=collect
      - path: backupServers/7caf66d5-f700-442c-9aa9-8867f031377f?action=quickbackup
        body:
          QuickBackupStartupSpec:
            VmRef: urn:VMware:Vm:2.vm-1
"""

RETURN = r"""
msg:
  description: How many ended how; if it failed, what and why.
  returned: always
  type: str
outcomes:
  description: What became of each, in the order given.
  returned: if the logon and the names were good
  type: list
  elements: dict
  contains:
    name:
      description: Of the job, or the path or the ID of the task.
      type: str
    action:
      description: What was done with the job.
      type: str
    path:
      description: Where it was sent.
      type: str
    task_id:
      description: The task that the server made of it.
      type: str
    outcome:
      description:
        - V(succeeded), V(warning), V(failed), V(lost), V(unfinished) at the timeout, V(started) without a wait,
          V(planned) in check mode, V(refused), V(uncertain) or V(not_sent).
      type: str
    state:
      description: Where it stood last, in the server's words.
      type: str
    message:
      description: What the server said of the task.
      type: str
    reasons:
      description: Why it is not well, as far as is known.
      type: list
      elements: str
    session:
      description: The job session that it started, as C(uid), C(kind), C(name), C(job_name), C(state), C(result),
        C(progress), C(created_at), C(ended_at); null if it was not followed.
      type: dict
    failures:
      description: The machines that did not end with Success, each as C(vm), C(result), C(reason).
      type: list
      elements: dict
report:
  description: The names of those with each outcome, for example under C(succeeded) and C(failed).
  returned: if the logon and the names were good
  type: dict
resume:
  description: What O(resume) takes, to wait for those that were C(started) or C(unfinished).
  returned: if the logon and the names were good, but not in check mode
  type: dict
"""

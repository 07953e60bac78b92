"""The documentation of what all four actions take."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of the connection, attributes and notes."""

    DOCUMENTATION = r"""
options:
  url:
    description:
      - Where the Enterprise Manager is, for example V(https://em.example:9398).
      - If it does not stand here, the variable C(veeam_em_url) counts, then C(VEEAM_EM_URL)
        in the environment. So it is with every option of the connection that names a variable.
    type: str
  username:
    description: As whom to log on, for example V(CORP\\svc). Variable C(veeam_em_username), then C(VEEAM_EM_USERNAME).
    type: str
  password:
    description: The password. Variable C(veeam_em_password), best kept in a vault, then C(VEEAM_EM_PASSWORD).
    type: str
  logon:
    description:
      - A logon session to use instead of an account, as M(veeam_tasks.em.logon) returns it.
      - If none of O(url), O(username) and O(password) stands at the task, the variable C(veeam_em_logon)
        counts, which M(veeam_tasks.em.logon) sets; and, where no variable names an account,
        C(VEEAM_EM_TOKEN) and C(VEEAM_EM_SESSION_ID) of the environment.
    type: dict
  ca_file:
    description:
      - PEM file, on the controller, of the CAs to trust instead of the system's.
        Variable C(veeam_em_ca_file), then C(VEEAM_EM_CA_FILE).
      - Where O(ca_file), O(fingerprint) or O(insecure) is set nearer to the task, it replaces all three.
    type: path
  fingerprint:
    description:
      - SHA-256 of the server's own certificate, with or without colons; replaces the checks of chain, name and expiry.
        Variable C(veeam_em_fingerprint), then C(VEEAM_EM_FINGERPRINT).
      - C(veeam-tasks fingerprint URL) prints it; compare it with the server's own console.
    type: str
  insecure:
    description:
      - V(true) trusts anyone, and warns. Anyone on the way can then read the password.
        Variable C(veeam_em_insecure); no variable of the environment does that.
    type: bool
  proxy:
    description: URL of an HTTP proxy. Variable C(veeam_em_proxy), then C(VEEAM_EM_PROXY).
    type: str
  request_timeout:
    description: Seconds until a request without a reply is given up; 30 if not said. Variable C(veeam_em_request_timeout).
    type: float
  api_version:
    description: Interface version to log on with, for example V(v1_7); the latest if not said. Variable C(veeam_em_api_version).
    type: str
  accept:
    description: What the server is asked to answer with; XML if not said. Variable C(veeam_em_accept).
    type: str
    choices: [xml, json]
requirements:
  - veeam-tasks >= 0.2 in the Python that runs Ansible
author:
  - the authors of veeam-tasks (!UNKNOWN)
attributes:
  action:
    description: It is an action plugin, so it runs on the controller, in the Python of Ansible.
    support: full
  async:
    description: The keyword C(async) is of no use here. Actions are waited for as long as it takes.
    support: none
  delegation:
    description: It runs on the controller whatever the host, and makes no connection to it.
    support: none
  become:
    description: It runs as whoever runs Ansible.
    support: none
notes:
  - Each host of the play does the task once. Use C(hosts) V(localhost) or C(run_once), unless it is about the host.
  - With C(module_defaults) the options of the connection can be set for all with the group C(group/veeam_tasks.em.em).
"""

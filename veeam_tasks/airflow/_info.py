"""What Airflow asks a provider: which classes it has, which form its connections have.

It must import nothing of Airflow: the entry point is called while Airflow itself is
being imported, and an error here breaks every ``airflow`` command.
"""

from typing import Any

_NAME = "Veeam Backup Enterprise Manager"
_PACKAGE = "veeam_tasks.airflow"


def get_provider_info() -> dict[str, Any]:
    """Return what Airflow's providers manager reads."""
    return {
        "package-name": "veeam-tasks",
        "name": _NAME,
        "description": "Start jobs and other actions, and learn how they ended.",
        "integrations": [
            {
                "integration-name": _NAME,
                "external-doc-url": "https://helpcenter.veeam.com/docs/backup/em_rest/",
                "tags": ["service"],
            }
        ],
        "operators": [_modules("operators")],
        "sensors": [_modules("sensors")],
        "hooks": [_modules("hooks")],
        "triggers": [_modules("triggers")],
        "extra-links": [f"{_PACKAGE}.links.VeeamConsoleLink"],
        "connection-types": [
            {
                "connection-type": "veeam_em",
                "hook-class-name": f"{_PACKAGE}.hooks.VeeamHook",
                "hook-name": _NAME,
                "ui-field-behaviour": _field_behaviour(),
                "conn-fields": _extra_fields(),
            }
        ],
    }


def _modules(kind: str) -> dict[str, object]:
    return {"integration-name": _NAME, "python-modules": [f"{_PACKAGE}.{kind}"]}


def _field_behaviour() -> dict[str, object]:
    return {
        "hidden-fields": ["schema"],
        "relabeling": {"host": "URL or host", "login": "Account"},
        "placeholders": {
            "host": "em.example",
            "port": "9398",
            "login": r"CORP\svc-backup",
        },
    }


def _extra_fields() -> dict[str, dict[str, object]]:
    return {
        "fingerprint": {
            "label": "Fingerprint of the certificate",
            "description": "SHA-256; 'veeam-tasks fingerprint URL' prints it.",
            "schema": {"type": ["string", "null"]},
        },
        "ca_file": {
            "label": "File with the CAs to trust",
            "description": "PEM; on every worker and triggerer.",
            "schema": {"type": ["string", "null"]},
        },
        "insecure": {
            "label": "Verify no certificate",
            "description": "Whoever sits in between can then read the password.",
            "schema": {"type": ["boolean", "null"], "default": False},
        },
    }

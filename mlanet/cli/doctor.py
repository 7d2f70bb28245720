"""`mlanet doctor`: what this installation is made of, for oneself and for a report of a fault."""

from __future__ import annotations

from mlanet.cli.output import Json, print_json, print_pairs


def doctor(json: Json = False) -> None:
    """Show versions, devices, threads and packaged models, and compute one small structure as a test."""
    from mlanet.workflows.describe import installation

    document = installation()
    if json:
        print_json(document)
        return
    print_pairs("", ((name, str(value)) for name, value in document.items()))

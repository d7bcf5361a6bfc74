"""An API against its own OpenAPI description: Schemathesis asks what that allows and forbids.

It knows a description's address, and nothing of what the API is for.
"""

from __future__ import annotations

from collections.abc import Mapping

PLANNED = 4  # requests of each operation


def check_description(url: str, headers: Mapping[str, str], planned: int = PLANNED) -> None:
    """Checks every answer to *planned* requests of each operation; *headers* let each of them in."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

    # the key is always sent; and no schema can say which URLs may be fetched, or that `end` is after `start`
    not_asked = [ignored_auth, positive_data_acceptance]
    within = settings(
        max_examples=planned,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    for operation in schemathesis.openapi.from_url(url).get_all_operations():

        def check(case):
            answer = case.call(headers=dict(headers))
            case.validate_response(answer, excluded_checks=not_asked)

        within(given(case=operation.ok().as_strategy())(check))()

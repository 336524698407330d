"""The safeguards of services on loopback."""

from __future__ import annotations

from tests.crash.safeguard import Safeguard
from tests.support.mutation import Mutation

_RULES = "packages/textract-local/src/textract_local/origins.py"
_PAGES = "tests/unit/devkit/test_guard_asgi.py::test_guarded_request_of_web_page_is_403_and_not_passed_on"
_IMAGE = "tests/unit/devkit/test_guard_asgi.py::test_guarded_image_get_by_allowed_host_is_403"
_LINK = "tests/unit/devkit/test_guard_asgi.py::test_guarded_navigation_with_action_query_is_403"

LOOPBACK: tuple[Safeguard, ...] = (
    Safeguard(
        "no-proxy-for-loopback",
        "no proxy is asked for a service on this machine",
        "behind a company's proxy photos for the local S3 are sent to the proxy, which cannot reach it",
        (2, 12),
        "the variables for proxies hold for loopback as well",
        (
            Mutation(
                "photo_worker/aws.py",
                "_Session._proxies_for",
                "not $proxies or is_loopback($host) or $exceptions == EVERY_HOST",
                "not $proxies or $exceptions == EVERY_HOST",
            ),
        ),
        ("tests/unit/test_loopback.py::test_put_to_loopback_is_not_sent_to_proxy",),
    ),
    Safeguard(
        "no-page-of-another-origin",
        "a local service does nothing for a web page of another origin",
        "any web page that a developer opens deletes what the local services hold",
        (4,),
        "Origin is not looked at",
        (
            Mutation(
                _RULES,
                "OriginRules._refusal",
                "not (self._same_origin and $origin.lower() == f'http://{host}'.lower())",
                "False",
            ),
        ),
        (_PAGES,),
    ),
    Safeguard(
        "no-page-of-another-site",
        "a local service does nothing for a plain request of another site's page",
        "a link or an image of any web page makes the local services act, without an Origin that tells",
        (4,),
        "Sec-Fetch-Site is not looked at",
        (Mutation(_RULES, "OriginRules._refusal", "$site not in self._sites", "not $site"),),
        (_PAGES,),
    ),
    Safeguard(
        "no-rebound-name",
        "a local service is called by the names of loopback alone",
        "a web page whose name is made to point to 127.0.0.1 reads and deletes what the local services hold",
        (4, 12),
        "any Host is taken",
        (Mutation(_RULES, "OriginRules._refusal", "self._is_known($host)", "$host"),),
        (_PAGES,),
    ),
    Safeguard(
        "no-browser-by-another-name",
        "a local service is called by browsers under the names of loopback alone",
        "an image of any web page makes the local services act, by an allowed name to which browsers send no sign of"
        " where it comes from",
        (4, 12),
        "what only browsers send is not looked at",
        (
            Mutation(
                _RULES, "_browsers_refusal", "$seen.browsers is not None and not _is_loopback(_name_of($host))", "False"
            ),
        ),
        (_IMAGE,),
    ),
    Safeguard(
        "no-action-by-a-link",
        "a local service does nothing for a link that a person follows",
        "a link in a mail, or an address that leads on to another, makes and deletes queues of the local services",
        (4,),
        "what an address asks to be done is not looked at",
        (Mutation(_RULES, "_browsers_refusal", "$seen.browsers is not None and _acts($query)", "False"),),
        (_LINK,),
    ),
)

"""The page as a whole: its head, its style, its script, and the policy that allows these two and nothing else."""

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from clusterd.dashboard.model import Dashboard
from clusterd.dashboard.page import sections
from clusterd.dashboard.page.escaping import escape

REFRESH_SECONDS = 5
"""How often a browser without JavaScript loads the page again. With JavaScript, page.js replaces <main> more often."""


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


_STYLE, _SCRIPT = _asset("page.css"), _asset("page.js")

# https://www.w3.org/TR/CSP3/: nothing may be loaded, framed or submitted; only this style and script run.
POLICY = (
    f"default-src 'none'; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)}; connect-src 'self'; "
    "img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def _icon(colour: str) -> str:
    """Return the picture in the browser's tab: a dot with the colour of the state, as the body of a data URL."""
    dot = f"<circle cx='4' cy='4' r='4' fill='{colour}'/>"
    return quote(f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'>{dot}</svg>")


def render(dashboard: Dashboard) -> bytes:
    """Return the HTML document."""
    about = dashboard.about
    name = escape(sections.title(about))
    colour = "#b3261e" if about.not_ready else "#1a7f37"
    word = "not ready" if about.not_ready else f"{dashboard.totals.ready}/{dashboard.totals.wanted}"
    return f"""<!doctype html>
<html lang="en" data-version="{escape(about.version)}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<link rel="icon" href="data:image/svg+xml,{_icon(colour)}">
<noscript><meta http-equiv="refresh" content="{REFRESH_SECONDS}"></noscript>
<title>{name}: {word}</title>
<style>{_STYLE}</style>
</head>
<body>
<p id="stale" role="alert" hidden></p>
<main>
{sections.everything(dashboard)}
</main>
<footer>
<p>Requests a second and CPU are of the last seconds; latencies and errors are of the last minute; charts show
15 minutes. This page only shows. <code>clusterctl</code> changes something.</p>
<nav><a href="metrics">metrics</a> <a href="healthz">healthz</a> <a href="readyz?verbose">readyz</a></nav>
</footer>
<script>{_SCRIPT}</script>
</body>
</html>
""".encode("utf-8", "backslashreplace")

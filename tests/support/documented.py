"""The configurations of proxies and of Prometheus in the documentation, each made a complete file."""

import re
from pathlib import Path

_DEFAULTS = """\
defaults
    timeout connect 5s
    timeout client 50s
    timeout server 50s
"""
_DOCUMENTS = Path(__file__).parents[2] / "docs"
BEHIND_A_PROXY = _DOCUMENTS / "behind-a-proxy.md"
MANY_HOSTS = _DOCUMENTS / "many-hosts.md"


def haproxy_configurations(*documents: Path) -> list[str]:
    """Complete files for HAProxy, with the timeouts of Debian's own file. Of all documents, if none is named."""
    files = []
    for block in _blocks("haproxy", *(documents or (BEHIND_A_PROXY, MANY_HOSTS))):
        frontend = "" if "frontend" in block else "frontend web\n    mode http\n    bind :80\n"
        backend = "" if "backend app\n" in block else "backend app\n    mode http\n"
        files.append(_DEFAULTS + frontend + block + backend)
    return files


def nginx_configurations(port: int) -> list[str]:
    """Complete files for nginx, which opens what it is to listen on even to check a file."""
    files = []
    for block in _blocks("nginx", BEHIND_A_PROXY):
        upstream = "" if "upstream app" in block else "upstream app { server 127.0.0.1:8000; }\n"
        server = f"server {{ listen 80;\n{block}}}\n" if block.startswith("location") else block
        http = (upstream + server).replace("listen 80;", f"listen 127.0.0.1:{port};")
        files.append(f"pid nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{http}}}\n")
    return files


def caddy_configuration() -> str:
    """The file for Caddy."""
    (text,) = _blocks("caddy", BEHIND_A_PROXY)
    return text


def prometheus_configurations() -> list[str]:
    """Complete files for Prometheus."""
    return _blocks("prometheus", MANY_HOSTS)


def _blocks(language: str, *documents: Path) -> list[str]:
    found = []
    for document in documents:
        blocks = re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), re.M | re.S)
        assert blocks, f"{document} has no {language}"
        found += blocks
    return found

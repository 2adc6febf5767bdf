"""Checks that no setting can make alone: values that contradict each other, and paths that do not exist."""

import os
import stat

from clusterd.config.model import Address, Switch, TcpAddress, UnixAddress, WorkerRange
from clusterd.config.reading.accounts import ID_OF, UnknownAccount
from clusterd.config.reading.problems import Place
from clusterd.config.reading.values import Values

_ALL_ADDRESSES = {"0.0.0.0", "::"}


def check_combinations(given: Values, source: Place) -> None:
    """Refuse combinations of settings that contradict each other.

    Only settings that are valid by themselves are compared; each of them has a value. `source` is the place of a
    setting that was not written.
    """
    _at_most(given, "timeouts.drain_idle", "timeouts.drain")
    if "rollout.health_check.path" in given.values:
        _at_most(given, "rollout.health_check.timeout", "rollout.boot_timeout")
    if given.are_good("app", "run"):
        _check_what_runs(given)
    if given.are_good("listen", "tls.listen", "metrics", "agent", "control"):
        _check_addresses(given, source)
    if given.are_good("tls") and given.values["tls.certificate"] is None:
        for key in ("tls.listen", "tls.key"):
            if given.values[key]:
                place, found = given.places[key], f"{key} is given, and no certificate"
                given.refuse(place, "tls.certificate", found, hint="name its file in tls.certificate")
    trusted = given.are_good("proxy_protocol", "trusted_proxies") and given.values["trusted_proxies"]
    if given.values.get("proxy_protocol") is Switch.ON and trusted == ():
        place, found = given.places["proxy_protocol"], "on, but trusted_proxies is empty, so no client could connect"
        given.refuse(place, "proxy_protocol", found, hint="name the proxies in trusted_proxies")


def _check_what_runs(given: Values) -> None:
    """Check that either an application is served or a function is run. A function serves no HTTP."""
    app, run = given.values["app"], given.values["run"]
    if run is None:
        if app is None:
            given.refuse(given.places["run"], "run", "null, and there is no app", hint="name one of them")
        return
    place = given.places["run"]
    if app is not None:
        found = f"app is given too ({given.places['app']}), and a worker does one of them"
        given.refuse(place, "run", found, hint="keep one of them")
        return
    for key in ("listen", "tls.listen", "rollout.health_check.path"):
        if given.values.get(key) and key in given.places:
            found = f"{run} is run, which serves no HTTP"
            given.refuse(given.places[key], key, found, hint="leave it out, or name an application in app")
    if isinstance(given.values.get("workers"), WorkerRange):
        hint = "give one number; cluster.scale and clusterctl scale change it"
        found = f"{run} is run, and nothing tells clusterd how much work waits for it"
        given.refuse(given.places.get("workers", place), "workers", found, hint=hint)
    if "listen" not in given.places:
        given.values["listen"] = ()


def _check_addresses(given: Values, source: Place) -> None:
    """Check that no address is given twice or for two purposes."""
    listen: list[tuple[str, Address]] = []
    for key in ("listen", "tls.listen"):
        place = given.places.get(key, source)
        for address in given.values[key]:
            clash = next((own for own, other in listen if _overlap(address, other)), None)
            if clash == key and (key, address) in listen:
                given.refuse(place, key, f"{address} is given twice", hint="keep one of them")
            elif clash is not None and clash != key:
                given.refuse(place, key, f"{address} is one of {clash} too", hint="HTTP and HTTPS need one each")
            listen.append((key, address))
    metrics, control = given.values["metrics.address"], given.values["control"]
    clash = next((own for own, other in listen if _overlap(metrics, other)), None)
    if clash is not None:
        place = given.places.get("metrics.address", given.places.get(clash, source))
        given.refuse(place, "metrics", f"{metrics} is one of {clash} too", hint="give it an address of its own, or off")
    agent = given.values["agent"]
    others = (*listen, *([("metrics", metrics)] if metrics is not None else []))
    clash = next((own for own, other in others if _overlap(agent, other)), None)
    if clash is not None:
        found, hint = f"{agent} is one of {clash} too", "give it an address of its own, or off"
        given.refuse(given.places.get("agent", given.places.get(clash, source)), "agent", found, hint=hint)
    used = (*(address for _, address in listen), metrics, agent)
    taken = {each.path for each in used if isinstance(each, UnixAddress)}
    if control is not None and control in taken:
        found = f"{control} is one of the other addresses too"
        given.refuse(given.places["control"], "control", found, hint="give it a path of its own")


def _overlap(one: Address | None, other: Address) -> bool:
    """Return whether binding both must fail: the same address, or the same port on all addresses."""
    if not isinstance(one, TcpAddress) or not isinstance(other, TcpAddress):
        return one == other
    families_alike = (":" in one.host) == (":" in other.host)
    hosts_overlap = one.host == other.host or (families_alike and bool({one.host, other.host} & _ALL_ADDRESSES))
    return one.port == other.port != 0 and hosts_overlap


def check_paths(given: Values) -> None:
    """Refuse paths that were written and do not exist.

    A path that this user may not look at passes. clusterctl reads configurations of services that run as another user,
    and for clusterd itself the template reports what it could not open.
    """
    for key, is_right, what in (
        ("directory", stat.S_ISDIR, "a directory"),
        ("python", stat.S_ISREG, "an interpreter"),
        ("tls.certificate", stat.S_ISREG, "a file"),
        ("tls.key", stat.S_ISREG, "a file"),
    ):
        path = given.values.get(key)
        if path is None or key not in given.places or path.startswith("credential:"):
            continue
        try:
            mode = os.stat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            hint = f"a symbolic link to {os.readlink(path)}, which does not exist" if os.path.islink(path) else ""
            given.refuse(given.places[key], key, f"{path} does not exist", hint=hint)
        except OSError:
            continue
        else:
            if not is_right(mode):
                hint = f"write {path}/bin/python" if os.path.exists(f"{path}/bin/python") and key == "python" else ""
                given.refuse(given.places[key], key, f"{path} is not {what}", hint=hint)


def check_names(given: Values) -> None:
    """Refuse users and groups that were written and do not exist on this machine."""
    for last, id_of in ID_OF.items():
        key, name = f"unix_sockets.{last}", given.values.get(f"unix_sockets.{last}")
        if name is not None and key in given.places:
            try:
                id_of(name)
            except UnknownAccount as error:
                given.refuse(given.places[key], key, str(error))


def _at_most(given: Values, key: str, bound: str) -> None:
    if not given.are_good(key, bound):
        return
    if key not in given.places:
        # A default is lowered to the written value. Only a written value can be an error.
        given.values[key] = min(given.values[key], given.values[bound])
    elif given.values[key] > given.values[bound]:
        found = f"{given.values[key]:g} s is longer than {bound} ({given.values[bound]:g} s)"
        given.refuse(given.places[key], key, found, hint=f"lower it, or raise {bound}")

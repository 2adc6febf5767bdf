"""Builds clusterd, its engine compiled wherever that is possible; everything else about the package is in setup.cfg.

    CLUSTERD_COMPILE=1      the engine is compiled, or the build fails
    CLUSTERD_COMPILE=0      it is not
    neither                 it is where there is a C compiler, except for an editable installation

The modules below are what runs for each request and each connection. mypyc translates them to C as they are: the same
files run interpreted wherever they were not compiled (a checkout, an application's own Python of another version).
"""

import os
import runpy
import shlex
import shutil
import sys
import sysconfig
from glob import glob
from pathlib import Path
from tempfile import TemporaryDirectory

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

COMPILED = (
    "service/clusterd/http/**/*.py",
    "service/clusterd/config/limits.py",
    "service/clusterd/metrics/shared/counting.py",
    "service/clusterd/wire/connection_state.py",
    "service/clusterd/worker/accepting/acceptor.py",
    "service/clusterd/worker/accepting/accept_policy.py",
    "service/clusterd/worker/accepting/exclusive_listeners.py",
)
INTERPRETED = {
    "service/clusterd/http/compilation.py",  # tells the one from the other
    "service/clusterd/http/asgi/application.py",  # an exception, whose base is none of mypyc's
    "service/clusterd/http/hidden_loop.py",  # a class that is a coroutine, which mypyc does not know
    "service/clusterd/http/asgi/websocket/masking.py",  # chooses between C and Python
}
WRITTEN_IN_C = {"clusterd.http.asgi.websocket._masking": "service/clusterd/http/asgi/websocket/_masking.c"}
"""What no Python does fast enough, each with the module that stands in for it where it was not compiled."""
BUILDING = {"bdist_wheel", "build", "build_ext", "build_py", "editable_wheel", "install"}
"""The commands that need what is compiled. Others only ask for the metadata, and would wait for it in vain."""
EDITABLE = {"develop", "editable_wheel"}
REMEDY = "apt install gcc python3-dev, then install it again with pip's --no-cache-dir"
COMPILATION = runpy.run_path("service/clusterd/http/compilation.py")


def compiled_modules() -> list[str]:
    """The files to compile."""
    found = {path for pattern in COMPILED for path in glob(pattern, recursive=True)}
    return sorted(path for path in found - INTERPRETED if not path.endswith("__init__.py"))


def why_interpreted(demand: str, lack: str, *, is_editable: bool) -> str:
    """Why the engine is not compiled; empty if it is. Exits if what is demanded cannot be.

    `demand` is CLUSTERD_COMPILE, and `lack` what this machine lacks for it. A failure of mypyc or of the C compiler is
    no such lack: it ends the build.
    """
    if demand == "0":
        return "it was installed with CLUSTERD_COMPILE=0"
    if demand == "1":
        if lack:
            sys.exit(f"CLUSTERD_COMPILE=1, but {lack}; {REMEDY}")
        return ""
    if demand:
        sys.exit(f"CLUSTERD_COMPILE={demand}, and it can be 0 or 1")
    if is_editable:
        return "an editable installation is not compiled"
    return lack


def find_compiler() -> str | None:
    """The C compiler that setuptools will call. Where Python's own is missing, CC has it call another one."""
    if "CC" not in os.environ and shutil.which(_program(sysconfig.get_config_var("CC") or "cc")) is None:
        found = next(filter(shutil.which, ("cc", "gcc", "clang")), None)
        if found is None:
            return None
        os.environ["CC"] = found
    return shutil.which(_program(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"))


def _program(command: str) -> str:
    return shlex.split(command)[0]


def find_lack() -> str:
    """What this machine lacks for compiling; empty if nothing."""
    if find_compiler() is None:
        return "no C compiler was found when it was installed"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python.h was not found when it was installed"
    return ""


class BuildPython(build_py):  # type: ignore[misc]  # setuptools has no stubs
    """Copies the sources. Where they are not compiled, the reason goes with them, for `clusterd --version`."""

    reason = ""

    def run(self) -> None:
        """Copy them."""
        super().run()
        if self.reason and not self.editable_mode:
            Path(self.build_lib, COMPILATION["REASON"]).write_text(f"{self.reason}\n", encoding="utf-8")


def extensions(directory: str) -> list[Extension]:
    """What is to be built; the C sources are written to `directory`."""
    from mypyc.build import mypycify

    # Silent about what the engine only imports: that is `make lint`'s, which has the packages it needs.
    options = ["--config-file=setup.cfg", "--follow-imports=silent", f"--cache-dir={directory}/mypy"]
    found = mypycify([*options, *compiled_modules()], target_dir=directory, group_name="clusterd")
    found += [Extension(name, [source], extra_compile_args=["-O3"]) for name, source in WRITTEN_IN_C.items()]
    for extension in found:
        # The libraries name no temporary directory, so that two builds of the same sources are equal.
        places = directory, sys.prefix, str(Path.cwd())
        extension.extra_compile_args += ["-g0", *(f"-ffile-prefix-map={place}=." for place in places)]
    return found


def build() -> None:
    """Build what the command line asks for, in a directory of its own: no later build packs what this one leaves."""
    lack = find_lack()
    BuildPython.reason = why_interpreted(
        os.environ.get("CLUSTERD_COMPILE", ""), lack, is_editable=not EDITABLE.isdisjoint(sys.argv)
    )
    with TemporaryDirectory() as directory:
        try:
            setup(
                ext_modules=[] if BuildPython.reason else extensions(directory),
                cmdclass={"build_py": BuildPython},
                options={"build": {"build_base": directory}},
            )
        except (Exception, SystemExit):
            if not BuildPython.reason:
                print(
                    "The engine cannot be compiled, see above. CLUSTERD_COMPILE=0 installs it interpreted.", flush=True
                )
            raise
    print(f"The engine is {COMPILATION['outcome'](BuildPython.reason)}.", flush=True)
    if lack and BuildPython.reason == lack:
        print(f"To have it compiled: {REMEDY}.", flush=True)


if __name__ == "__main__":
    if BUILDING.isdisjoint(sys.argv):
        setup()
    else:
        build()

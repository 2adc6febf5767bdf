"""Entry point under the application's interpreter: `PYTHON bootstrap.py 3 clusterd.template.process PADDING`.

Loads the package `clusterd` from the directory of this file, and its compiled library if one fits this interpreter. It
does not put that directory on sys.path, so nothing beside the package (or of the master's interpreter) can shadow a
module that the application imports. The syntax is kept so plain that any Python 3 can run this file far enough to
report what is missing.
"""

import json
import os
import sys

OLDEST_PYTHON = (3, 11)
NEEDED = ("uvloop",)
LIBRARY = "clusterd__mypyc"
"""The library that setup.py compiles. It lies beside the package."""


def refuse(descriptor, reason):
    """Send LoadFailed (wire/messages.py) and exit. Encoded by hand: an old Python may not even compile the codec."""
    message = {"v": 1, "type": "LoadFailed", "reason": reason, "traceback": "", "permanent": True}
    os.write(descriptor, json.dumps(message).encode())
    sys.exit(1)


def check_interpreter(descriptor):
    """Fail the load, with the command that helps, if this interpreter cannot run a worker."""
    if sys.version_info < OLDEST_PYTHON:
        version = ".".join(str(number) for number in sys.version_info[:3])
        refuse(descriptor, "python: %s is Python %s; clusterd needs 3.11 or newer" % (sys.executable, version))
    import importlib.util

    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        command = "%s -m pip install %s" % (sys.executable, " ".join(missing))
        if sys.prefix == "/usr":  # The distribution's own Python: pip must not install into it (PEP 668).
            command = "apt install %s" % " ".join("python3-" + name for name in missing)
        refuse(descriptor, "python: %s lacks %s; run: %s" % (sys.executable, ", ".join(missing), command))


def load_package():
    """Make `import clusterd` find this file's package, and make its compiled modules find their library."""
    from importlib.machinery import EXTENSION_SUFFIXES

    directory = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for suffix in EXTENSION_SUFFIXES:
        library = os.path.join(os.path.dirname(directory), LIBRARY + suffix)
        if os.path.exists(library):
            load(LIBRARY, library)
            break
    load("clusterd", os.path.join(directory, "__init__.py"), [directory])


def load(name, path, submodules=None):
    """Load the module `name` from `path` into sys.modules."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=submodules)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    channel_descriptor, program = int(sys.argv[1]), sys.argv[2]
    if not getattr(sys.flags, "safe_path", False):  # PYTHONSAFEPATH
        del sys.path[0]  # Python has put this file's directory there.
    sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "shim"))
    sys.argv = ["clusterd"]
    check_interpreter(channel_descriptor)
    load_package()
    import importlib

    importlib.import_module(program).main(channel_descriptor)

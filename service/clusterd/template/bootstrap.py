"""Started by path under the application's own interpreter: `PYTHON bootstrap.py 3 clusterd.template.process PADDING`.

It loads the package `clusterd` from where this file lies, and what of it is compiled for this
interpreter, without putting that directory on sys.path: nothing beside the package (or of the
master's interpreter) can shadow what the application imports. Written so that any Python 3 can
run it far enough to say what is missing.
"""

import json
import os
import sys

OLDEST_PYTHON = (3, 11)
NEEDED = ("uvloop",)
LIBRARY = "clusterd__mypyc"
"""What setup.py compiles, beside the package."""


def refuse(descriptor, reason):
    """Say LoadFailed (wire/messages.py) by hand: the codec may not even compile here."""
    message = {"v": 1, "type": "LoadFailed", "reason": reason, "traceback": "", "permanent": True}
    os.write(descriptor, json.dumps(message).encode())
    sys.exit(1)


def check_interpreter(descriptor):
    """An interpreter that cannot run a worker is a failed load with the way to mend it."""
    if sys.version_info < OLDEST_PYTHON:
        version = ".".join(str(number) for number in sys.version_info[:3])
        refuse(descriptor, "python: %s is Python %s; clusterd needs 3.11 or newer" % (sys.executable, version))
    import importlib.util

    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        command = "%s -m pip install %s" % (sys.executable, " ".join(missing))
        if sys.prefix == "/usr":  # the distribution's own, into which pip must not install (PEP 668)
            command = "apt install %s" % " ".join("python3-" + name for name in missing)
        refuse(descriptor, "python: %s lacks %s; run: %s" % (sys.executable, ", ".join(missing), command))


def load_package():
    """Make `import clusterd` find the package that this file belongs to, and its compiled modules their library."""
    from importlib.machinery import EXTENSION_SUFFIXES

    directory = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for suffix in EXTENSION_SUFFIXES:
        library = os.path.join(os.path.dirname(directory), LIBRARY + suffix)
        if os.path.exists(library):
            load(LIBRARY, library)
            break
    load("clusterd", os.path.join(directory, "__init__.py"), [directory])


def load(name, path, submodules=None):
    """Load one module."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=submodules)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    channel_descriptor, program = int(sys.argv[1]), sys.argv[2]
    del sys.path[0]  # this file's directory
    sys.argv = ["clusterd"]
    check_interpreter(channel_descriptor)
    load_package()
    import importlib

    importlib.import_module(program).main(channel_descriptor)

"""The process on a throwaway host: it runs one contender, by lines of JSON."""

from __future__ import annotations

import json
import os
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Final

CONTENDERS: Final = {
    "floor": "bench.contenders.floor:Floor",
    "watcher": "bench.contenders.program:Program",
    "netavark": "bench.contenders.netavark:Netavark",
    "cni": "bench.contenders.cni:Cni",
    "gate": "bench.contenders.gate:Gate",
    "gate-read": "bench.contenders.readers:Read",
    "runc-read": "bench.contenders.readers:RunRead",
    "runc": "bench.contenders.containers:Containers",
    "runc-watcher": "bench.contenders.containers:Watched",
    "runc-beside": "bench.contenders.shared:Beside",
    "runc-by-annotation": "bench.contenders.shared:ByAnnotation",
    "runc-by-path": "bench.contenders.shared:ByPath",
    "runc-cni": "bench.contenders.hooks:WithCni",
    "runc-netavark": "bench.contenders.hooks:WithNetavark",
    "runc-names": "bench.contenders.containers:Named",
    "names-watcher": "bench.contenders.names:OfWatcher",
    "names-aardvark": "bench.contenders.names:OfAardvark",
    "names-dnsmasq": "bench.contenders.names:OfDnsmasq",
    "ports-watcher": "bench.contenders.published:OfWatcher",
    "ports-netavark": "bench.contenders.published:OfNetavark",
    "ports-cni": "bench.contenders.published:OfCni",
    "policy-attach": "bench.contenders.held:Attaching",
    "policy-packets": "bench.contenders.held:Sending",
    "packets-none": "bench.contenders.packets:WithoutRules",
    "packets-watcher": "bench.contenders.packets:OfWatcher",
    "packets-netavark": "bench.contenders.packets:OfNetavark",
    "packets-cni": "bench.contenders.packets:OfCni",
    "across-live": "bench.contenders.live:Live",
    "watcher-in-cluster": "bench.contenders.in_cluster:InCluster",
    "across-hand": "bench.contenders.across:ByHand",
    "across-opened": "bench.contenders.across:OfWatcher",
    "across-watcher": "bench.contenders.across:Clustered",
    "limited-watcher": "bench.contenders.limited:Limited",
}
"""The module and the class of each contender."""


def main(kind: str, base: str, directory: str, options: str) -> None:
    """Serve calls until the pipe ends."""
    # A contender's output goes to the log; only answers use the pipe.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    module, _, name = CONTENDERS[kind].partition(":")
    given = json.loads(options)
    if (tree := given.pop("tree", None)) is not None:
        sys.path.insert(0, tree)  # the program itself is imported from there
    contender = getattr(import_module(module), name)(Path(base), Path(directory), **given)
    answers.write('{"result": null}\n')
    for line in sys.stdin:
        verb, *args = json.loads(line)
        try:
            answer = {"result": getattr(contender, verb)(*args)}
        except Exception as error:  # noqa: BLE001 (told to who asked)
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
    contender.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

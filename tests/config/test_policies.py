"""Lists, rates and counts in the configuration: what is read, and what cannot be kept to."""

from __future__ import annotations

import tomllib

import pytest

from watcher.config.keys import build
from watcher.config.rules import ConfigKeyError
from watcher.config.settings import Config

LAB = '[network.lab]\nbridge = "lab0"\nsubnets = ["172.20.0.0/24"]\n'


def read(text: str) -> Config:
    return build(tomllib.loads(text))


def test_limits_are_read() -> None:
    config = read(
        '[[root]]\nlimits = { policy = "lab", egress_bandwidth = "1.5G", connections = 100 }\n'
        f'[firewall]\nmark = 1\n{LAB}egress = ["Any:443/tcp", "10.0.0.0/8", "any:443/tcp"]\n'
        'ingress = []\ningress_bandwidth = "8Mi"\nconnections = 20000\n'
    )
    lab, most = config.networks["lab"], config.roots[0].limits
    assert (lab.egress, lab.ingress) == (("10.0.0.0/8", "any:443/tcp"), ())
    assert (lab.ingress_bandwidth, lab.egress_bandwidth, lab.connections) == (2**23, None, 20000)
    assert lab.policed
    assert (most.policy, most.egress_bandwidth, most.connections) == ("lab", 1_500_000_000, 100)
    assert config.firewall.mark == 1


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        (f'{LAB}egress = ["any"]\nguard = false', "egress", "with guard = false"),
        (f"{LAB}ingress = []\nmanaged = false", "ingress", "with managed = false"),
        (
            f'{LAB}egress = ["any"]\nroutes = [{{ to = "10.0.0.0/8", via = "172.20.0.2" }}]',
            "egress",
            "with routes",
        ),
        (f'{LAB}egress = ["any"]\ninternal = true', "egress", "no way out with internal = true"),
        (f"{LAB}ingress = []\ninternal = true", "ingress", "publishes nothing with internal"),
        (f'{LAB}egress = ["a.example:80"]\nnames = false', "egress", "with names = false"),
        (f'{LAB}egress = "any"', "egress", "not a list of strings"),
        (f"{LAB}egress = [80]", 0, "not a string"),
        (f'{LAB}egress = ["any", "host"]', 1, "is a source"),
        (f'{LAB}egress = ["none"]', 0, "is for annotations"),
        (f'{LAB}ingress = ["any", "None"]', 1, "is for annotations"),
        (f'{LAB}ingress = ["a.example"]', 0, "a name, which no source has"),
        (f'{LAB}egress = ["any", "!a.example"]', "egress", "takes names out"),
        (f'{LAB}egress_bandwidth = "0"', "egress_bandwidth", "a rate of zero"),
        (f'{LAB}ingress_bandwidth = "10m"', "ingress_bandwidth", "not a rate"),
        (f"{LAB}ingress_bandwidth = 10", "ingress_bandwidth", "not a string"),
        (f"{LAB}connections = 0", "connections", "no connection at all"),
        (f"{LAB}connections = true", "connections", "not a whole number"),
        (f'{LAB}connections = "5"', "connections", "not a whole number"),
        ('[[root]]\nlimits.policy = "lab"', "policy", "no such network"),
        (f'[[root]]\nlimits.policy = "lab"\n{LAB}', "policy", "that network has no list"),
        ("[firewall]\nmark = 3", "mark", "not one bit"),
        ("[firewall]\nmark = 0", "mark", "not one bit"),
    ],
)
def test_what_cannot_be_kept_to_is_refused(text: str, key: str | int, reason: str) -> None:
    with pytest.raises(ConfigKeyError) as error:
        read(text)
    assert error.value.path[-1] == key
    assert reason in error.value.reason
    assert "None" not in error.value.reason


@pytest.mark.parametrize("text", [f'{LAB}connections = "5"', '[firewall]\nmark = "0x10000000"'])
def test_a_number_in_quotes_is_none(text: str) -> None:
    with pytest.raises(ConfigKeyError) as error:
        read(text)
    assert error.value.reason == "not a whole number"


def test_a_name_may_be_taken_out_of_others() -> None:
    lab = read(f'{LAB}egress = ["*.lab.example", "!a.lab.example"]').networks["lab"]
    assert lab.egress == ("!a.lab.example", "*.lab.example")


def test_a_list_that_divides_itself_too_often_is_refused() -> None:
    combs = [f"any:{2 * n + 1}" for n in range(64)]
    holes = [f"!{n}.0.0.0/8" for n in range(1, 128, 2)]
    with pytest.raises(ConfigKeyError, match="more than 2048 parts"):
        read(f"{LAB}egress = {[*combs, *holes]}")

"""mismatch.io.public_addresses: no private address behind the name of a public one."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from mismatch.io.public_addresses import is_public, without_mapping


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "::ffff:1.1.1.1", "64:ff9b::101:101", "2606:4700::1111", "2a00:1450:4001::1"],
)
def test_public_ones(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "100.64.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::10.0.0.1",
        "::1.1.1.1",
        "::ffff:0:10.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::1.1.1.1",
        "64:ff9b:1:a00:1::",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:a9fe:a9fe::",
        "3fff::1",
        "5f00::1",
        "fd00::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "4000::1",
    ],
)
def test_others(address: str) -> None:
    assert not is_public(ip_address(address))


def test_a_mapped_address_is_the_one_that_it_stands_for() -> None:
    assert str(without_mapping(ip_address("::ffff:10.0.0.1"))) == "10.0.0.1"
    assert str(without_mapping(ip_address("::1"))) == "::1"
    assert str(without_mapping(ip_address("10.0.0.1"))) == "10.0.0.1"

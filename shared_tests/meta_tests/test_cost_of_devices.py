"""The table of what several devices cost, on docs/devices.md, is what the formulas above it give."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "devices.md").read_text()
BATCH, LENGTH, HIDDEN, ITEMSIZE = 8, 4096, 4096, 2
SPEED, WITHIN, BETWEEN = 400e12, 400e9, 50e9
"""Operations a second of a device, and bytes a second of a link within a host and of one between hosts."""


def all_reduce(numbers, devices):
    """Bytes that each device sends for a ring's all-reduce of so many numbers."""
    return 2 * (devices - 1) / devices * numbers * ITEMSIZE


def step(hosts, devices):
    """Milliseconds of a step of training: computing, all-reduces of heads within a host, of gradients between hosts."""
    forward = 4 * BATCH * LENGTH * HIDDEN**2 + 2 * BATCH * LENGTH**2 * HIDDEN
    computing = 3 * 2 * forward / devices / SPEED
    heads = 4 * all_reduce(BATCH * LENGTH * HIDDEN, devices) / WITHIN
    gradients = all_reduce(4 * HIDDEN**2 / devices, hosts) / (BETWEEN / devices)
    return tuple(1000 * seconds for seconds in (computing, heads, gradients))


def over_hosts(hosts, devices):
    """Milliseconds of the all-reduces if the heads of one layer were spread over all devices of several hosts."""
    return 1000 * 4 * all_reduce(BATCH * LENGTH * HIDDEN, hosts * devices) / BETWEEN


def test_the_table_is_the_formulas():
    rows = re.findall(r"^\| ([\d,]+) \| (\d+) × (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 6
    for total, hosts, devices, *times in rows:
        assert int(total.replace(",", "")) == int(hosts) * int(devices)
        assert times == [f"{time:.1f}" for time in step(int(hosts), int(devices))]


@pytest.mark.parametrize(
    "words",
    [f"{BATCH} sequences of {LENGTH} tokens", "400 TFLOP/s", "400 GB/s", "50 GB/s", f"{over_hosts(4, 8):.0f} ms"],
)
def test_the_page_says_what_they_are_for(words):
    assert words in PAGE

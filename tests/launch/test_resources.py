"""What trials ask for: from the command line, the suite or the defaults."""

import pytest

from harness.launch.resources import Resources, chosen, size
from harness.suite import SuiteResources


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("8GB", 8_000_000_000),
        ("7.5 GiB", 7.5 * 2**30),
        ("512MB", 512_000_000),
        ("1TiB", 2**40),
        ("1PB", None),
        ("8gb", None),
        ("GB", None),
        ("1e3GB", None),
        ("٣GB", None),
        ("2000000TB", None),
    ],
)
def test_sizes(text, count):
    if count is None:
        with pytest.raises(ValueError, match=r"--memory takes a size like 8GB or 7.5GiB, not"):
            size(text)
    else:
        assert size(text) == count


@pytest.mark.parametrize(
    ("suite", "given", "wanted"),
    [
        (None, {}, Resources(2)),
        ({"gpus": 0.5, "cpus": 4}, {}, Resources(4, 0.5)),
        ({"gpus": 0.5, "cpus": 4}, {"gpus": "0", "cpus": 1}, Resources(1, 0.0)),
        (
            {"gpus": "auto", "accelerator": "A100", "memory": "1GB"},
            {"memory": "2GB"},
            Resources(2, "auto", 2 * 10**9, "A100"),
        ),
        ({"gpus": 1}, {"gpus": "auto"}, Resources(2, "auto")),
    ],
)
def test_the_command_line_outdoes_the_suite(suite, given, wanted):
    names = ("cpus", "gpus", "memory", "accelerator")
    of_suite = None if suite is None else SuiteResources(**suite)
    assert chosen(of_suite, *(given.get(name) for name in names), default_cpus=2) == wanted


def test_a_type_of_gpu_needs_gpus_from_wherever_it_comes():
    with pytest.raises(ValueError, match=r"^--accelerator A100 needs --gpus$"):
        chosen(SuiteResources(accelerator="A100"), None, None, None, None, 1)

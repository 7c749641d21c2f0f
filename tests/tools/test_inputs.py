"""What people hand us is read and repeated within bounds."""

import errno

import pytest

from harness.tools.inputs import cut, os_reason, parse_json, read_bounded, shown


def test_a_value_of_megabytes_is_shown_in_200_characters():
    assert shown("ab") == "'ab'"
    said = shown("x" * 10**8)
    assert len(said) == 200
    assert said.endswith("...")
    assert len(shown(list(range(10**5)))) == 200


def test_a_value_that_has_no_repr_is_named_by_its_type():
    assert shown(10**5000) == "a int that cannot be written out"


def test_a_text_with_line_breaks_becomes_one_line():
    assert cut("one\n two\tthree") == "one two three"
    assert cut("one " + 1000 * " ").startswith("one")


def test_a_file_that_never_ends_is_refused():
    with pytest.raises(ValueError, match="/dev/zero is larger than 1 MiB"):
        read_bounded("/dev/zero", 2**20)


def test_a_byte_order_mark_is_no_part_of_json():
    assert parse_json(b'\xef\xbb\xbf{"a": 1}', "x") == {"a": 1}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xff{}", "spec.json is not valid JSON: byte 0 is not UTF-8 text"),
        (b"[" * 100_000, "nested too deeply"),
        (b"{", "spec.json is not valid JSON: Expecting property name"),
        (b"1" * 5000, "spec.json is not valid JSON: a number in it has thousands of digits"),
        (b"", "spec.json is not valid JSON: Expecting value"),
    ],
)
def test_what_is_not_json_is_said_in_one_line(data, says):
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        parse_json(data, "spec.json")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_error_of_the_system_names_its_files():
    full = OSError(errno.ENOSPC, "No space left on device", "a/b", None, "c")
    assert os_reason(full) == "a/b -> c: No space left on device"
    assert os_reason(OSError("strange")) == "strange"
    assert os_reason(OSError()) == "OSError"

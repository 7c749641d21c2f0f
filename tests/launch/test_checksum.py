"""Which code two processes run."""

from harness.launch.checksum import code


def test_the_code_of_a_package_is_known_by_its_files(tmp_path):
    sums = []
    for name, text in (("a", "one"), ("b", "two"), ("c", "one")):
        (tmp_path / name / "below").mkdir(parents=True)
        (tmp_path / name / "below" / "__init__.py").write_text(text)
        (tmp_path / name / "notes.txt").write_text(name)
        sums.append(code(tmp_path / name))
    assert sums[0] == sums[2] != sums[1]

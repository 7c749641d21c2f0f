"""Stores that are none, or whose record of a suite is broken: (what makes it, arguments, what the
refusal names). What else may be broken in a store stands in `tests/records`."""

import os
from functools import partial

STORE = ("--store", "store")
PLAN, STUDY = "store/suites/tiny/plan.json", "store/suites/tiny/study.json"
LONG = "x" * 300_000


def nothing(here):
    """An empty working directory."""


def a_file(name, content, here):
    (here / name).parent.mkdir(parents=True, exist_ok=True)
    (here / name).write_bytes(content)


def a_folder(name, here):
    (here / name).mkdir(parents=True)


def a_link(name, to, here):
    (here / name).parent.mkdir(parents=True, exist_ok=True)
    (here / name).symlink_to(to)


def a_fifo(name, here):
    os.mkfifo(here / name)


def record(content):
    return partial(a_file, PLAN, content)


DAMAGED = [
    (b"", "plan.json is not valid JSON: Expecting value"),
    (b"\0" * 4096, "plan.json is not valid JSON"),
    (b"\xff" * 100, "plan.json is not valid JSON: byte 0 is not UTF-8 text"),
    (b'{"suite": {}, "tri', "plan.json is not valid JSON"),
    (b"[" * 100_000, "plan.json is not valid JSON: it is nested too deeply"),
    (b'{"suite": ' + b"9" * 5_000 + b"}", "plan.json is not valid JSON: a number in it"),
    (b"<html>", "plan.json is not valid JSON"),
    (b"{}", "plan.json"),
    (b"[]", "plan.json"),
    (b"3", "plan.json"),
    (b"null", "plan.json"),
    (b'"trials"', "plan.json"),
    (b'{"suite": {}, "trials": null}', "plan.json"),
    (b'{"suite": {}, "trials": {}}', "tiny"),
    (b'{"suite": {}, "trials": 3}', "plan.json"),
    (b'{"suite": {}, "trials": [3]}', "plan.json"),
    (b'{"suite": {}, "trials": [null]}', "plan.json"),
    (b'{"suite": {}, "trials": [{}]}', "plan.json"),
    (b'{"suite": {}, "trials": [{"trial_id": 3}]}', "plan.json"),
    (b'{"suite": {}, "trials": [{"trial_id": "../../etc"}]}', "plan.json"),
    (b'{"suite": {}, "trials": [{"trial_id": "' + b"x" * 100_000 + b'"}]}', "plan.json"),
    (b'{"suite": {}, "trials": [{"trial_id": "a\\u0000b"}]}', "plan.json"),
]

CASES = [
    # paths
    *(
        (nothing, (verb, "tiny.py", "--store", path), says)
        for verb in ("plan", "table", "report", "run")
        for path, says in (
            ("", "the store's path is empty"),
            ("  ", "the store's path is empty"),
            (LONG, "File name too long"),
            ("a/" * 3_000, "File name too long"),
            ("tiny.py", "tiny.py is not a folder"),
            ("tiny.py/store", "tiny.py is not a folder"),
            ("~nobody-of-this-name/store", "there is no such user"),
            ("a\0b", "argument 4 holds a NUL character"),
            ("b\udcff", "argument 4 is not UTF-8 text"),
            ("/dev/null", "/dev/null is not a folder"),
            ("/dev/null/x", "/dev/null is not a folder"),
            ("s4://bucket/x", "a store is a folder or one of s3://, gs://, az://"),
        )
    ),
    (nothing, ("run", "tiny.py", "--store", "/proc/x"), "cannot write to the store /proc/x"),
    (nothing, ("report", "tiny.py", "--store", "/sys/x"), "cannot write to the store /sys/x"),
    (nothing, ("claims", "--store", "tiny.py"), "tiny.py is not a folder"),
    (nothing, ("ui", "--store", "store"), "has no mirror yet"),
    (partial(a_link, "store", "store"), ("plan", "tiny.py", *STORE), "store"),
    (partial(a_link, "store", "store"), ("run", "tiny.py", *STORE), "store"),
    (partial(a_fifo, "store"), ("plan", "tiny.py", *STORE), "store is not a folder"),
    (partial(a_fifo, "store"), ("run", "tiny.py", *STORE), "store is not a folder"),
    # records of the suite
    (nothing, ("table", "tiny.py", *STORE), "no record of suite tiny in"),
    (partial(a_folder, "store/suites/tiny"), ("table", "tiny.py", *STORE), "no record of suite"),
    (partial(a_folder, PLAN), ("table", "tiny.py", *STORE), "plan.json: Is a directory"),
    (partial(a_link, PLAN, "nosuch"), ("table", "tiny.py", *STORE), "no record of suite tiny in"),
    (partial(a_link, PLAN, "plan.json"), ("table", "tiny.py", *STORE), "no record of suite tiny"),
    (partial(a_link, PLAN, "/dev/zero"), ("table", "tiny.py", *STORE), "is larger than 64 MiB"),
    (record(b'{"suite": {}, "trials": []}'), ("table", "tiny", *STORE), "no finished trial yet"),
    (
        record(b'\xef\xbb\xbf{"suite": {}, "trials": []}'),
        ("report", "tiny", *STORE),
        "no finished trial yet",
    ),
    *(
        (record(content), (verb, "tiny", *STORE), says)
        for content, says in DAMAGED
        for verb in ("table", "report")
    ),
    *(
        (partial(a_file, STUDY, content), (verb, "tiny", *STORE), says)
        for content in (b"", b"{}", b"[]", b"null", b'{"study": 3}', b"[" * 100_000, b"\xff")
        for verb, says in (("table", "tiny"), ("report", "study.json"))
    ),
]

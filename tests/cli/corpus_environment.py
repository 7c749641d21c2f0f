"""Variables and files around a command: (variables, arguments, what the refusal names)."""

LONG = "x" * 100_000
DIGITS = "9" * 5_000
TRIAL, RUN, TUNE = ("trial", "spec.json"), ("run", "tiny.py"), ("tune", "timing.digits")

THREADS = "HARNESS_THREADS must be a whole number from 1 to "
SECONDS = "HARNESS_CHECKPOINT_SECONDS must be a number of seconds from 0 to "

NUMBERS = ("", " ", "-1", "+1", "1e3", "two", "²", "٣", DIGITS, LONG)

CASES = [
    *(
        ({"HARNESS_THREADS": value}, arguments, THREADS)
        for value in (*NUMBERS, "0", "1.0", "100000")
        for arguments in (TRIAL, RUN)
    ),
    *(
        ({"HARNESS_CHECKPOINT_SECONDS": value}, arguments, SECONDS)
        for value in ("", "-1", "nan", "inf", "-inf", "1e999", "1 minute", DIGITS + "x", LONG)
        for arguments in (TRIAL, RUN)
    ),
    *(
        ({"HARNESS_DEVICE": value}, TRIAL, "HARNESS_DEVICE is ")
        for value in ("gpu", "CPU", " cpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "mps", LONG)
    ),
    ({"HARNESS_DEVICE": "cuda:0"}, TRIAL, "no GPU can be used here"),
    ({"HARNESS_DEVICE": f"cuda:{DIGITS}"}, TRIAL, "HARNESS_DEVICE is 'cuda:999"),
    ({"HARNESS_DEVICE": "cuda"}, RUN, "no GPU can be used here"),
    ({"HARNESS_THREADS": "2"}, (*RUN, "--cpus", "1"), "a trial needs as many CPUs, not --cpus 1"),
    ({"HARNESS_THREADS": "many"}, TUNE, THREADS),
    ({"HARNESS_STORE": " "}, TRIAL, "the store's path is empty"),
    ({"HARNESS_STORE": "tiny.py"}, TRIAL, "tiny.py is not a folder"),
    ({"HARNESS_STORE": "tiny.py"}, ("table", "tiny.py"), "tiny.py is not a folder"),
    ({"HARNESS_STORE": "/proc/x"}, TRIAL, "cannot write to the store /proc/x"),
    ({"HARNESS_STORE": LONG}, TRIAL, "File name too long"),
    ({"HARNESS_STORE": "a\udcff"}, TRIAL, "is not text in UTF-8"),
    ({"HARNESS_STORE": "~nobody-of-this-name/x"}, TRIAL, "there is no such user"),
    ({"HARNESS_STORE": "~nobody-of-this-name"}, ("plan", "tiny.py"), "there is no such user"),
    ({"HARNESS_STORE": ""}, ("table", "tiny.py"), "no record of suite tiny in"),
]  # fmt: skip

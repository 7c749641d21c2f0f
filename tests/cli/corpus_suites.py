"""Files in place of a suite's: (name, text or bytes, what the refusal names)."""

HEAD = """from harness.suite import *
from harness.suite import suite as room
full = {"full": FullSpec(kind="full")}
def of(**fields):
    given = {"task": TaskSpec(name="digits"), "arms": full, **fields}
    return Comparison(**given)
def suite_of(*comparisons, **fields):
    return Suite(**{"name": "mine", "comparisons": comparisons or (of(),), **fields})
"""
STUDY = """from harness.suite import *
from harness.tune import *
base = TrialSpec(task=TaskSpec(name="digits"), arm=InTrainingSpec(kind="in_training"))
space = Space(
    start=Floats(low=0.0, high=0.5), length=Floats(low=0.1, high=0.5),
    count=Ints(low=1, high=4), tau=Floats(low=0.01, high=0.3, log=True),
)
def study_of(**fields):
    given = {"name": "s", "base": base, "space": space, "seeds": (0, 1), "confirm_seeds": (2, 3),
             "goal": "pareto", "budget": Budget(candidates=8)}
    return Study(**{**given, **fields})
"""
AT_MOST = "Input should be less than or equal to "


def suite(arguments):
    return f"{HEAD}suite = suite_of({arguments})"


def study(arguments):
    return f"{STUDY}suite = study_of({arguments})"


CASES = [
    # what is no Python
    (b"", "has no suite or study 'suite'; it has none"),
    (b"\xff\xfe", "mine.py"),
    (b"x = '\xe9'", "mine.py"),
    (b"# -*- coding: nosuch -*-\n", "mine.py"),
    (b"x = 1\0", "null bytes"),
    (b"\x7fELF\0\0", "mine.py"),
    (b"suite = \xef\xbb\xbf1", "mine.py, line 1"),
    ("suite = (((", "mine.py, line 1: '(' was never closed"),
    ("(" * 100_000, "mine.py"),
    ("-" * 100_000 + "1", "mine.py: "),
    ("x = " + "+".join(["1"] * 100_000), "mine.py: "),
    ("def f():\nreturn", "mine.py, line 2: expected an indented block"),
    ("print 'hello'", "mine.py, line 1: Missing parentheses"),
    ("if True:\n\tx = 1\n        y = 2", "mine.py, line 3"),
    ("{\n", "mine.py, line 1: '{' was never closed"),
    ("x = " + "9" * 5_000, "mine.py, line 1: Exceeds the limit"),
    ("name: mine\ntask: digits", "mine.py, line 1: NameError: name 'mine' is not defined"),
    (b"#" * (16 * 2**20 + 1), "mine.py is larger than 16 MiB"),
    # what ends badly
    ("raise BaseException('no')", "mine.py, line 1: BaseException: no"),
    ("raise BaseException", "mine.py, line 1: BaseException"),
    ("raise GeneratorExit", "mine.py, line 1: GeneratorExit"),
    ("raise StopIteration", "mine.py, line 1: StopIteration"),
    ("class Own(BaseException): pass\nraise Own('x' * 10**6)", "mine.py, line 2: Own: xxx"),
    ("class Own(Exception):\n  def __str__(self): 1 / 0\nraise Own", "line 3: Own: (which cannot"),
    ("raise ExceptionGroup('many', [ValueError('a'), ValueError('b')])", "ExceptionGroup: many"),
    ("raise ValueError('a\\nb\\tc')", "mine.py, line 1: ValueError: a b c"),
    ("raise MemoryError", "mine.py, line 1: MemoryError"),
    ("x = [0] * 10**12", "mine.py, line 1: MemoryError"),
    ("def f(): f()\nf()", "mine.py, line 1: RecursionError"),
    ("import sys\nsys.exit()", "mine.py, line 2: SystemExit"),
    ("import sys\nsys.exit(0)", "mine.py, line 2: SystemExit: 0"),
    ("exit('bye')", "mine.py, line 1: SystemExit: bye"),
    ("assert False", "mine.py, line 1: AssertionError"),
    ("import nosuchmodule", "mine.py, line 1: ModuleNotFoundError: No module named 'nosuchmodule'"),
    ("from . import x", "mine.py, line 1: ImportError: attempted relative import"),
    ("from harness.suite import Nosuch", "mine.py, line 1: ImportError: cannot import name"),
    ("import sys\nsys.path = None\n1 / 0", "mine.py, line 3: ZeroDivisionError"),
    ("import os\nos.chdir('/')\n1 / 0", "mine.py, line 3: ZeroDivisionError"),
    ("open('nosuch')", "mine.py, line 1: FileNotFoundError"),
    ("await x", "mine.py, line 1: 'await' outside function"),
    # what is no suite
    ("suite = None", "has no suite or study 'suite'; it has none"),
    ("def suite(): pass", "has no suite or study 'suite'; it has none"),
    ("from harness.suite import Suite as suite", "has no suite or study 'suite'; it has none"),
    ("suite = {'name': 'mine', 'comparisons': []}", "has no suite or study 'suite'"),
    (suite("") + "\nsuites = [suite]\ndel suite", "has no suite or study 'suite'; it has none"),
    (HEAD + "".join(f"s{i} = suite_of()\n" for i in range(40)), "it has s0, s1,"),
    (
        "class Evil:\n  def __getattr__(self, name): raise BaseException(name)\nsuite = Evil()",
        "has no suite or study 'suite'; it has none",
    ),
    (
        "class Evil:\n  __class__ = property(lambda self: 1 / 0)\nsuite = Evil()",
        "has no suite or study 'suite'; it has none",
    ),
    (
        "class Evil:\n  def __eq__(self, other): 1 / 0\n  __repr__ = __hash__ = __eq__\n"
        "suite = Evil()",
        "has no suite or study 'suite'; it has none",
    ),
    ("def __getattr__(name): raise KeyError(name)", "mine.py, suite: KeyError"),
    ("globals()[3] = 4", "has no suite or study 'suite'; it has none"),
    # suites that cannot be
    (suite("name=''"), "a suite's name is letters"),
    (suite("name='a/b'"), "a suite's name is letters"),
    (suite("name='..'"), "a suite's name is letters"),
    (suite("name='x\\n'"), "a suite's name is letters"),
    (suite("name='é'"), "a suite's name is letters"),
    (suite("name='x' * 300"), "a suite's name has 300 characters: at most 200"),
    (suite("name='\\n' * 10**6"), "a suite's name is letters"),
    (suite("name=None"), "name: Input should be a valid string"),
    (suite("description='x' * 10**6"), "the description has 1000000 characters"),
    (suite("description='\\x1b[2J'"), "holds a control character"),
    (suite("description='\\ud800'"), "description"),
    (suite("comparisons=()"), "comparisons"),
    (suite("comparisons=(3,)"), "comparisons.0"),
    (suite("of(), of()"), "comparisons share a name (digits, digits): give each its own"),
    (suite("of(), None"), "comparisons.1"),
    (suite("of(), of().model_copy(update={'name': 'a\\nb'})"), "holds a line break, tab"),
    (suite("of(name='\\t')"), "comparison '\\t' is blank"),
    (suite("of(arms={'': full['full']})"), "label '' is blank"),
    (suite("of(arms={'a\\rb': full['full']})"), "holds a line break, tab"),
    (suite("of(arms={'x' * 10**6: full['full']})"), "has 1000000 characters: at most 200"),
    (suite("of(arms={3: full['full']})"), "arms"),
    (suite("of(arms={'full': FullSpec})"), "arms"),
    (suite("of(arms={'a': SmallSpec(kind='small')})"), "give exactly one of `state_dims`"),
    (suite("of(arms={'a': PostHocSpec(kind='post_hoc', tau=0.1)})"), "from the full arm: add it"),
    (suite("of(arms={str(i): full['full'] for i in range(10_001)})"), "at most 10000 items"),
    (suite("of(seeds=tuple(range(10**6)))"), "at most 10000 items"),
    (
        suite("*(of(name=str(i), seeds=tuple(range(10_000))) for i in range(20))"),
        "the suite has 200000 trials: at most 100000",
    ),
    (suite("of(seeds=(0, 0))"), "seeds repeat: [0, 0]"),
    (suite("of(seeds=(10**5000,))"), "seeds.0"),
    (suite("of(model=LRUSpec(width=10**9))"), f"width: {AT_MOST}65536"),
    (suite("of(model=LRUSpec().model_copy(update={'width': 10**9}))"), f"{AT_MOST}65536"),
    (suite("of(training=TrainingSpec(steps=10**18))"), f"steps: {AT_MOST}1000000000"),
    (suite("of(task=TaskSpec(name='x' * 10**6))"), "no name 'xxx"),
    (suite("of(training={'steps': float('nan')})"), "training.steps"),
    (suite("of(arms=grid('x', [], None))"), "the grid of 'x' is empty"),
    (suite("of(arms=grid('x', [1, 1], None))"), "the grid of 'x' has 1 twice"),
    # studies that cannot be
    (study("name='a b'"), "a study's name is letters"),
    (study("name='x' * 300"), "a study's name has 300 characters"),
    (study("budget=Budget(candidates=10**9)"), f"candidates: {AT_MOST}10000"),
    (study("budget=Budget(flops=1e300)"), "is enough for more than 10000 candidates"),
    (study("budget=Budget(candidates=0)"), "fewer than one candidate"),
    (study("seeds=tuple(range(10**6))"), "at most 10000 items"),
    (
        study("seeds=tuple(range(2, 10_002)), confirm_seeds=(0, 1), budget=Budget(candidates=16)"),
        "170000 trials: at most",
    ),
    (study("confirm_seeds=tuple(range(5_000))"), "must be seeds that the search never saw"),
    (study("grid=10**9"), f"grid: {AT_MOST}10000"),
    (study("startup=10**12"), f"startup: {AT_MOST}10000"),
    (study("finalists=10**12"), f"finalists: {AT_MOST}10000"),
    (study("batch=10**12"), f"batch: {AT_MOST}10000"),
    (study("margin=-1.0, goal='constrained'"), "margin must not be negative"),
    (study("space=space.model_copy(update={'count': Ints(low=1, high=10**9)})"), "count"),
    (study("space=space.model_copy(update={'options': {'x' * 10**6: (1,)}})"), "no such option"),
    (study("space=space.model_copy(update={'options': {'keep': tuple(range(5_000))}})"), "1000"),
]

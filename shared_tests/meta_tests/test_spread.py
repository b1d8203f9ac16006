"""Subjects that answer from processes of their own: all are asked the same, and what goes wrong in one is said."""

import os
from pathlib import Path

import pytest

from shared_tests import drift, judge, record
from shared_tests.cases.table import CASES
from shared_tests.harness.find import find
from shared_tests.harness.spread import Spread

PORT = Path(__file__).parents[2] / "docs" / "my_port.py"
ANSWERING = """
import os
from my_port import MyPort

class Answering(MyPort):
    def build(self, config, weights, dtype):
        if config.num_heads > 3:
            raise ValueError(f"no more than 3 heads in rank {os.environ['RANK']}")
        if config.num_heads == 2:
            os._exit(3)
        return super().build(config, weights, dtype)
"""
RUN = """
def place(subject, word):
    import os
    return type(subject).__name__, word, os.environ["RANK"], os.environ["WORLD_SIZE"], os.environ["WORD"]
"""


@pytest.fixture
def spread(tmp_path):
    (tmp_path / "answering.py").write_text(ANSWERING)
    (tmp_path / "run.py").write_text(RUN)
    places = os.pathsep.join([str(tmp_path), str(PORT.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    claims = {"name": "two", "processes": 2, "answering": "answering:Answering", "additive": False, "pruned": False}
    variables = (("PYTHONPATH", places), ("WORD", "given"))
    kind = type("Two", (Spread,), claims | {"dtypes": ("float64",), "variables": variables})
    for method in ("forward_alone", "gradients", "export_weights"):  # which MyPort has not
        setattr(kind, method, None)
    return kind()


def test_what_processes_answer_is_judged(spread):
    report = judge(spread, cases={name: CASES[name] for name in ("bias", "lengths per query")})
    assert report.holds, str(report)
    assert report.compared > 1000


def test_what_processes_answer_is_recorded(spread):
    cases = {name: CASES[name] for name in ("bias", "lengths per query")}
    before, after = (record(spread, cases=cases) for _ in range(2))
    assert list(before.subjects) == ["two"]
    assert sum(array.size for array in before.arrays.values()) > 300
    found = drift(before, after)
    assert found.holds
    assert found.verdict().startswith("UNMOVED: two: ")


def test_every_process_is_asked(spread, tmp_path):
    answers = spread.run(str(tmp_path / "run.py"), "place", "asked")
    assert answers == [("Answering", "asked", rank, "2", "given") for rank in ("0", "1")]


def test_an_error_in_a_process_is_raised_and_the_next_question_answered(spread):
    with pytest.raises(ValueError, match=r"^no more than 3 heads in rank 0$"):
        spread.build(CASES["book"].config, {}, "float64")
    assert judge(spread, cases={"bias": CASES["bias"]}).holds


def test_a_process_that_ends_is_one_line(spread):
    for _ in range(2):
        with pytest.raises(OSError, match=r"^two: expected an answer, got none: a process ended$"):
            spread.build(CASES["pruned"].config, {}, "float64")


@pytest.mark.parametrize("name", ["torch_sharded", "jax_sharded", "tf_sharded"])
def test_a_missing_framework_is_one_line_that_names_the_extra(monkeypatch, tmp_path, name):
    """Modules that cannot be found, in the processes, which look first where PYTHONPATH says."""
    module = {"torch_sharded": "torch", "jax_sharded": "jax", "tf_sharded": "tensorflow"}[name]
    (tmp_path / f"{module}.py").write_text(f"raise ModuleNotFoundError('not here', name='{module}')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    extra = {"tf_sharded": "tensorflow"}.get(name, module)
    with pytest.raises(ImportError, match=rf"^{name}: .*; pip install 'trihead\[{extra}\]'$"):
        find(name)

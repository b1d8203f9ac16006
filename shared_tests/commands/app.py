"""The command `trihead`; `python -m shared_tests` is the same. Each command is a file beside this one."""

from __future__ import annotations

import sys

import typer

from shared_tests.commands.bench import bench
from shared_tests.commands.calibrate import calibrate
from shared_tests.commands.cases import cases
from shared_tests.commands.convert import convert
from shared_tests.commands.diagnose import diagnose
from shared_tests.commands.doctor import doctor
from shared_tests.commands.drift import drift
from shared_tests.commands.faults import faults
from shared_tests.commands.heads import heads
from shared_tests.commands.record import record
from shared_tests.commands.show import show
from shared_tests.commands.verify import verify

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich")


@app.callback()
def trihead() -> None:
    """Multi-head attention in PyTorch, JAX and TensorFlow, and one judge of whether they are the same."""


app.command(epilog="Example: trihead verify --subject my_port.py:MyPort --json verdict.json")(verify)
app.command(epilog="Example: trihead diagnose --subject my_port.py:MyPort --json diagnosis.json")(diagnose)
app.command(epilog="Example: trihead cases answered --claims claims.json")(cases)
app.command(epilog="Example: trihead record main.safetensors --subject my_port.py:MyPort")(record)
app.command(epilog="Example: trihead drift main.safetensors --json drift.json")(drift)
app.command(epilog="Example: trihead faults --id mask-inverted")(faults)
app.command(epilog="Example: trihead show masked_softmax MultiHeadAttention.call")(show)
app.command(epilog="Example: trihead calibrate --dtype float32")(calibrate)
app.command(epilog="Example: trihead doctor")(doctor)
app.command(epilog="Example: trihead bench --subject jax_impl --plot bench.svg")(bench)
app.command(
    epilog="Example: trihead convert model.safetensors layer.safetensors --to book --prefix encoder.layer.0.attention"
)(convert)
app.add_typer(heads, name="heads", epilog="Example: trihead heads show book heads.png")


def main() -> None:
    """Runs the command; a refusal is one line on standard error and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a sigma is not in every encoding
    try:
        app(prog_name="trihead")
    except (ValueError, ImportError, OSError) as error:
        print("trihead:", *str(error).splitlines(), file=sys.stderr)  # names in a file may hold anything
        sys.exit(2)

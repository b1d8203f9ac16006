"""`trihead heads`: what the heads of a layer do. Each of its commands is a file beside this one."""

from __future__ import annotations

import typer

from shared_tests.commands.heads_importance import importance
from shared_tests.commands.heads_prune import prune
from shared_tests.commands.heads_show import show
from shared_tests.commands.heads_study import study

heads = typer.Typer(no_args_is_help=True, help="See the heads of a layer, weigh them, prune them.")
heads.command(epilog="Example: trihead heads show book heads.png --subject torch_impl")(show)
heads.command(epilog="Example: trihead heads importance digits")(importance)
heads.command(epilog="Example: trihead heads prune layer.safetensors pruned.safetensors --heads 1,4")(prune)
heads.command(epilog="Example: trihead heads study digits --plot pruning.png")(study)

"""`effbert compile`: plans of a bundle for NVIDIA GPUs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from effbert.runtime.bundle.folder import Bundle, open_bundle
from effbert.runtime.commands.compile_report import facts, print_check, print_compiled
from effbert.runtime.commands.shared_options import json_option, revision_option
from effbert.runtime.console.groups import GroupedCommand
from effbert.runtime.console.parameters import grouped_option
from effbert.runtime.console.tables import print_table
from effbert.runtime.errors import InputError

if TYPE_CHECKING:
    from effbert.runtime.compile.compiling import CompileOptions
    from effbert.runtime.compile.profiles import Profile, Shape

WHAT, SHAPES, OUTPUT = "What to build", "Batches and lengths", "Output"
COMPILED = ("tensorrt-rtx", "tensorrt")
EXAMPLES = """
\b
Examples:
  effbert compile ./bundle --compute fp16
  effbert compile ./bundle --compute fp16 --targets sm86,sm89 --profile 1x8,1x32,1x128 \\
      --profile 1x8,8x64,32x128 --output ./plans
  effbert compile ./bundle --traffic calls.csv --leaving 0.2
  effbert compile ./bundle --check
  effbert compile --trust ./plans-from-the-build-machine
"""
PATH = click.Path(path_type=Path)


@click.command(cls=GroupedCommand, epilog=EXAMPLES)
@click.argument("bundle", required=False)
@grouped_option(
    WHAT,
    "--engine",
    type=click.Choice(COMPILED),
    default="tensorrt-rtx",
    show_default=True,
    help="tensorrt-rtx builds for any of its devices, without a GPU; tensorrt builds for the GPU "
    "of this machine.",
)
@grouped_option(
    WHAT,
    "--compute",
    type=click.Choice(["fp32", "fp16", "bf16"]),
    default="fp32",
    show_default=True,
    help="Precision of products and attention; LayerNormalization, policy and answers stay in "
    "float32, integers of int8 bundles stay integers.",
)
@grouped_option(
    WHAT,
    "--targets",
    metavar="SM,SM,..",
    default="",
    help="Devices, such as sm86,sm89; one plan serves all of them. Left out: sm80,sm86,sm89,sm120.",
)
@grouped_option(WHAT, "--tf32", is_flag=True, help="Let products of float32 round factors to TF32.")
@grouped_option(
    SHAPES,
    "--profile",
    "profiles",
    multiple=True,
    metavar="MIN,OPT,MAX",
    help="The least, the usual and the largest batch, each ROWSxLENGTH, such as 1x8,8x64,32x128. "
    "May be repeated. Left out: one profile for all lengths, and 1 to 32 rows.",
)
@grouped_option(
    SHAPES,
    "--traffic",
    type=PATH,
    metavar="FILE",
    help="Plan profiles for a histogram of calls: a .csv with the columns batch, length and "
    "count, or JSON lines with these. With --profile, only says how well those serve it.",
)
@grouped_option(
    SHAPES,
    "--most-profiles",
    type=click.IntRange(1, 16),
    default=3,
    show_default=True,
    help="Profiles that --traffic may plan.",
)
@grouped_option(
    SHAPES,
    "--leaving",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Share of the rows that usually leave at each exit: later segments are tuned for fewer.",
)
@grouped_option(
    OUTPUT,
    "--output",
    type=PATH,
    metavar="DIR",
    help="Folder to make for the plans; left out: the user's cache, where sessions look.",
)
@grouped_option(
    OUTPUT,
    "--cache-limit",
    type=click.FloatRange(0.001),
    default=16.0,
    show_default=True,
    metavar="GB",
    help="What the cache may hold; plans that were not used for longest go first.",
)
@grouped_option(OUTPUT, "--check", is_flag=True, help="Only list what cannot be built, and why.")
@grouped_option(
    OUTPUT,
    "--trust",
    type=PATH,
    metavar="DIR",
    help="Adopt plans that were built elsewhere: a plan is code, so do it only if you know who "
    "built them.",
)
@revision_option
@json_option()
def compile(  # the command's name
    bundle: str | None,
    revision: str | None,
    trust: Path | None,
    check: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Build plans of BUNDLE for NVIDIA GPUs, one for each segment.

    Sessions with --engine tensorrt-rtx or tensorrt run them. No GPU is needed to build with
    tensorrt-rtx.
    """
    if trust is not None:
        if bundle is not None:
            raise InputError("--trust takes the folder of the plans alone; leave BUNDLE out.")
        _adopt(trust, as_json)
        return
    if bundle is None:
        raise InputError("BUNDLE is missing; give its folder, or ORG/NAME on the hub.")
    opened = open_bundle(bundle, revision)
    options, traffic = _options(opened, **asked)
    if check:
        _check(opened, options, as_json)
        return
    from effbert.runtime.compile.compiling import compile_bundle
    from effbert.runtime.compile.traffic import serve

    compiled = compile_bundle(opened, options, _progress(as_json))
    served = serve(traffic, options.profiles) if traffic else None
    if as_json:
        click.echo(json.dumps(facts(compiled, served)))
    else:
        print_compiled(compiled, served)


def _options(
    bundle: Bundle,
    engine: str,
    compute: str,
    targets: str,
    tf32: bool,
    profiles: Sequence[str],
    traffic: Path | None,
    most_profiles: int,
    leaving: float,
    output: Path | None,
    cache_limit: float,
) -> tuple[CompileOptions, dict[Shape, int]]:
    from effbert.runtime.compile.compiling import CompileOptions
    from effbert.runtime.compile.profiles import read_profile, usual_profile
    from effbert.runtime.compile.traffic import plan_profiles, read_traffic

    calls = {} if traffic is None else read_traffic(traffic)
    chosen: list[Profile] = [read_profile(text) for text in profiles]
    if calls and not chosen:
        chosen = plan_profiles(calls, most_profiles)
    return (
        CompileOptions(
            engine=engine,
            compute=compute,
            targets=[target for target in targets.split(",") if target.strip()],
            profiles=chosen or [usual_profile(bundle.manifest)],
            leaving=leaving,
            tf32=tf32,
            output=output,
            limit=int(cache_limit * 1e9),
        ),
        calls,
    )


def _progress(quiet: bool) -> Callable[[int, int, str], None] | None:
    if quiet:
        return None

    def show(done: int, total: int, file: str) -> None:
        click.echo(f"building {done + 1} of {total}: {file}", err=True)

    return show


def _adopt(folder: Path, as_json: bool) -> None:
    from effbert.runtime.engines.plans.trust import adopt_plans

    adopted = adopt_plans(folder)
    if as_json:
        click.echo(json.dumps({"adopted": dict(adopted)}))
        return
    rows = [(name, digest[:16]) for name, digest in adopted]
    print_table(
        f"Adopted from {folder}: this machine runs them from now on", ("plan", "sha256"), rows
    )


def _check(bundle: Bundle, options: CompileOptions, as_json: bool) -> None:
    from effbert.runtime.compile.compiling import check_bundle_builds

    found = check_bundle_builds(bundle, options)
    bad = [each for each in found if each.problems]
    if as_json:
        click.echo(json.dumps([each._asdict() for each in found]))
    else:
        print_check(found)
    if bad:
        sys.exit(1)

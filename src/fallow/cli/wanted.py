"""The options of everything that orders work."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter
from cyclopts.types import ExistingFile

from fallow.cli.units import cpu_milli, microusd, seconds
from fallow.domain.errors import InvalidInput
from fallow.domain.orders import Order, Requirements, Tolerance
from fallow.domain.places import read_cell
from fallow.domain.resources import GIB_MIB, GPUS_MAX
from fallow.sdk.containers import Image
from fallow.sdk.runs import RunOptions, completed

Many = Annotated[tuple[str, ...], Parameter(negative=(), show_default=False, consume_multiple=False)]
"""An option that may be repeated."""


COUNTRY_LETTERS = 2
FILE_NAME = re.compile("[A-Za-z0-9_][A-Za-z0-9_.-]*")
VARIABLE_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
OPTION_OF = {
    "cpu_milli": "--cpu, in thousandths",
    "memory_mib": "--memory",
    "disk_mib": "--disk",
    "vram_mib": "--vram, in MiB",
    "leases_per_owner_max": "--per-owner",
    "within_km": "--within-km",
    "countries": "--country",
    "time_limit_s": "--time-limit, in seconds",
    "retries": "--retries",
    "replicas": "--replicas",
    "label": "--label",
    "max_price_microusd_per_hour": "--max-price, in millionths",
    "budget_microusd": "--budget, in millionths",
}
_ANY_ORDER = {"id": "0" * 32, "vertical": "any", "work": {}}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the work needs and what it may cost."""

    input: Annotated[Many, Parameter(help="NAME=PATH: a file that the program finds as /in/NAME.")] = ()
    env: Annotated[Many, Parameter(help="NAME=VALUE: an environment variable of the program.")] = ()
    secret: Annotated[
        Many,
        Parameter(help="NAME or NAME=PATH: a variable whose value is taken from here or from a file."),
    ] = ()
    cpu: Annotated[str, Parameter(help="Cores.")] = "1"
    memory: Annotated[int, Parameter(help="Memory in MiB.")] = 256
    disk: Annotated[int, Parameter(help="Disk in MiB.")] = 64
    gpu: Annotated[str, Parameter(help="Graphics processors: MODEL:N, MODEL or N (rtx4090:2), this work's alone.")] = ""
    vram: Annotated[int, Parameter(help="With --gpu: GiB of memory that each of them has at least.")] = 0
    trust: Annotated[
        Literal["new", "proven", "vouched", "own"],
        Parameter(help="Only nodes of at least this trust level; own: those of your own account."),
    ] = "new"
    node: Annotated[
        Many,
        Parameter(help="Only on this node, or an account's nodes; the beginning of an id will do. May be repeated."),
    ] = ()
    not_node: Annotated[Many, Parameter(help="Never on this node, or an account's nodes; may be repeated.")] = ()
    per_owner: Annotated[
        int | None, Parameter(help="Of a map, no more items at a time on machines of one owner than so many.")
    ] = None
    attribute: Annotated[
        Many, Parameter(help="NAME=VALUE: what the node must say of itself, as `fallow nodes --json` shows it.")
    ] = ()
    country: Annotated[Many, Parameter(help="Only nodes in this country (two letters).")] = ()
    near: Annotated[str, Parameter(help="Only nodes near LAT,LON or an H3 cell, by their owners' word.")] = ""
    within_km: Annotated[int, Parameter(help="With --near: how near at most, from cell to cell.")] = 100
    max_price: Annotated[str | None, Parameter(help="Highest price in USD per hour.")] = None
    spot: Annotated[
        bool,
        Parameter(negative=(), help="Cheaper, where nodes offer it: it may be ended and moved for full-price work."),
    ] = False
    budget: Annotated[str | None, Parameter(help="Most that all of it may cost, in USD.")] = None
    time_limit: Annotated[str, Parameter(help="Longest time, for example 90s, 15m, 2h.")] = "3600"
    checkpoint: Annotated[
        str | None,
        Parameter(help="How often what a script or container keeps in /checkpoint is saved (60s); 0: never."),
    ] = None
    retries: Annotated[int, Parameter(help="How often a failed program is tried again.")] = 0
    until_stopped: Annotated[
        bool, Parameter(negative=(), help="Run it until the job is cancelled, on another machine when one is lost.")
    ] = False
    label: Annotated[str, Parameter(help="A name for your lists.")] = ""
    replicas: Annotated[
        int | None,
        Parameter(help="From how many owners' machines you want (and pay for) the result: 1, with a tolerance 2."),
    ] = None
    compare: Annotated[
        Literal["exact", "tolerance", "none"] | None,
        Parameter(help="How results compare; left out, as the kind of work has it."),
    ] = None
    rtol: Annotated[
        str | None, Parameter(help="With --compare tolerance: how far numbers may differ, as a part of the larger.")
    ] = None
    atol: Annotated[str | None, Parameter(help="With --compare tolerance: how far they may differ besides.")] = None
    comparator: Annotated[
        ExistingFile | None,
        Parameter(help="With --compare tolerance: a WASM program that compares /in/a with /in/b, 0 where they agree."),
    ] = None
    python: Annotated[str | None, Parameter(help="Version of Python that a script is to run on, for example 3.11.")] = (
        None
    )

    image: Annotated[
        str | None, Parameter(help="Run in a container: an image's name, or a file that podman or docker saved one to.")
    ] = None
    entrypoint: Annotated[Many, Parameter(help="With --image: a word of the program to run instead of its own.")] = ()
    pull_secret: Annotated[
        str | None, Parameter(help="With --image: which secret (USER:PASSWORD) the image's registry is shown.")
    ] = None
    workdir: Annotated[str | None, Parameter(help="With --image: the folder to start in.")] = None
    platform: Annotated[str | None, Parameter(help="With --image: what it is built for (linux/amd64).")] = None

    @property
    def container(self) -> Image | None:
        """The image to run, if it is to be one.

        Raises:
            InvalidInput: there are options of containers without an image.
        """
        if self.image is None:
            if self.entrypoint or self.workdir or self.platform or self.pull_secret:
                raise InvalidInput("cli.image", "--entrypoint, --workdir, --platform, --pull-secret go with --image.")
            return None
        image = Image(entrypoint=self.entrypoint)
        if Path(self.image).is_file():
            image["archive"] = Path(self.image)
        else:
            image["name"] = self.image
        if self.pull_secret is not None:
            image["pull_secret"] = self.pull_secret
        if self.workdir is not None:
            image["workdir"] = self.workdir
        if self.platform is not None:
            image["platform"] = self.platform
        return image

    @property
    def inputs(self) -> dict[str, Path]:
        """Files by their name in /in."""
        return {_named(name, FILE_NAME, "--input"): Path(path) for name, path in _pairs(self.input, "--input")}

    @property
    def environment(self) -> dict[str, str]:
        """The program's environment."""
        return {_named(name, VARIABLE_NAME, "--env"): value for name, value in _pairs(self.env, "--env")}

    @property
    def secrets(self) -> dict[str, str]:
        """Values by name, from this process's environment or from files (without the line break at their end).

        Raises:
            InvalidInput: one is not there.
        """
        return secret_values(self.secret)

    @property
    def options(self) -> RunOptions:
        """What the order says beside its work.

        Raises:
            InvalidInput: a number is out of range.
        """
        options = RunOptions(
            requirements=self._requirements(),
            time_limit_s=seconds(self.time_limit),
            retries=self.retries,
            label=self.label,
        )
        if self.replicas is not None:
            options["replicas"] = self.replicas
        if (tolerance := self._tolerance()) is not None:
            options["tolerance"] = tolerance
        if self.spot:
            options["spot"] = True
        if self.until_stopped:
            options["until_stopped"] = True
        if self.checkpoint is not None:
            options["checkpoint_s"] = 0 if self.checkpoint == "0" else seconds(self.checkpoint)
        if self.compare is not None:
            options["compare"] = self.compare
        if self.max_price is not None:
            options["max_price_microusd_per_hour"] = microusd(self.max_price)
        if self.budget is not None:
            options["budget_microusd"] = microusd(self.budget)
        _check(options)
        return options

    def _tolerance(self) -> Tolerance | None:
        """Margins for numbers; a program that compares has to be uploaded first."""
        margins = {name: text for name, text in (("rtol", self.rtol), ("atol", self.atol)) if text is not None}
        by = [*margins, *(["comparator"] if self.comparator is not None else [])]
        if (self.compare == "tolerance") != bool(by) or (margins and self.comparator is not None):
            raise InvalidInput(
                "cli.tolerance",
                "--compare tolerance goes with --rtol and --atol for numbers, or with --comparator.",
                "For example: --compare tolerance --rtol 1e-6",
            )
        try:
            return msgspec.convert(margins, Tolerance) if margins else None
        except msgspec.ValidationError as error:
            raise InvalidInput("cli.tolerance", f"This is no margin: {error}.", "For example 1e-6 or 0.01.") from error

    def _requirements(self) -> Requirements:
        model, gpus = _gpus(self.gpu)
        asked = {
            "gpus": gpus,
            "gpu_model": model,
            "vram_mib": self.vram * GIB_MIB,
            "cpu_milli": cpu_milli(self.cpu),
            "memory_mib": self.memory,
            "disk_mib": self.disk,
            "trust_min": self.trust,
            "nodes_allowed": list(self.node),
            "nodes_denied": list(self.not_node),
            "leases_per_owner_max": self.per_owner,
            "attributes": dict(_pairs(self.attribute, "--attribute")),
            "countries": [_country(text) for text in self.country],
            "near": read_cell(self.near) if self.near else "",
            "within_km": self.within_km if self.near else 0,
        }
        try:
            return msgspec.convert(asked, Requirements)
        except msgspec.ValidationError as error:
            raise InvalidInput(
                "cli.requirements", f"No machine can be asked for this: {_in_options(error)}."
            ) from error


def _check(options: RunOptions) -> None:
    """Refuse what the network would, before anything is sent to it.

    Raises:
        InvalidInput: `cli.order`.
    """
    if options.get("compare") == "tolerance" and "tolerance" not in options:
        options = {**options, "tolerance": Tolerance(program="0" * 64)}  # it is uploaded first
    told = {name: value for name, value in completed(options).items() if name in Order.__struct_fields__}
    try:
        msgspec.convert(msgspec.to_builtins({**_ANY_ORDER, **told}), Order)
    except msgspec.ValidationError as error:
        raise InvalidInput("cli.order", f"This cannot be ordered: {_in_options(error)}.") from error


def _in_options(error: msgspec.ValidationError) -> str:
    """Say what does not fit in the words of who typed it."""
    text = str(error)
    for field, option in OPTION_OF.items():
        text = re.sub(rf"`\$(\.\w+)*\.{field}(\[\d+\]|\[\.\.\.\])?`", option, text)
    return text


def _country(text: str) -> str:
    if len(text) != COUNTRY_LETTERS or not text.isascii() or not text.isalpha():
        raise InvalidInput("cli.country", f"{text!r} is no country.", "Two letters (ISO 3166), for example JP.")
    return text.upper()


Options = Annotated[Wanted | None, Parameter(name="*")]


def secret_values(texts: Iterable[str]) -> dict[str, str]:
    """Values of `--secret` by name; raises what `Wanted.secrets` raises."""
    return dict(_secret(text) for text in texts)


def _secret(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not equals and name in os.environ:
        return name, os.environ[name]
    try:
        return name, Path(path or "/nowhere").read_text("utf-8").removesuffix("\n")
    except (OSError, UnicodeError) as error:
        where = f"the file {path} cannot be read" if equals else "there is no such variable here"
        raise InvalidInput("cli.secret", f"The secret {name} has no value: {where}.") from error


def _pairs(texts: Iterable[str], option: str) -> list[tuple[str, str]]:
    pairs = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InvalidInput("cli.pair", f"{option} {text!r} is not of the form NAME=VALUE.")
        pairs.append((name, value))
    return pairs


def _named(name: str, pattern: re.Pattern[str], option: str) -> str:
    if not pattern.fullmatch(name):
        raise InvalidInput(
            "cli.name",
            f"{option} {name!r} is no name that a program can be given.",
            f"Names are like {pattern.pattern}",
        )
    return name


def _gpus(text: str) -> tuple[str, int]:
    """Read MODEL:N, MODEL or N; a model alone means one."""
    model, _, count = ("", "", text) if text.isdecimal() else text.partition(":")
    if count and not count.isdecimal():
        raise InvalidInput(
            "cli.gpu", f"--gpu {text!r} is not of the form MODEL:N.", "For example rtx4090:2, a100 or 1."
        )
    asked = int(count or bool(text))
    if asked > GPUS_MAX:
        raise InvalidInput("cli.gpu", f"No machine has {asked} graphics processors.", "A model has a name: rtx4090:2.")
    return model, asked

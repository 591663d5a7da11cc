"""The run directory: a training writes it, and all other commands read a run from it alone.

config.json      the resolved config, dataset, number of parameters, and versions
events.jsonl     one JSON object a line: start, log, evaluate, rollback, skipped_files, resume, end
samples/         grids of samples, step-00005000.png
checkpoints/     step-00005000.safetensors, the newest few and the best
scores.json      the records of `advnets evaluate`
curves.png       D(x), D(G(z)), V and scores during training
report.html      a page with samples, curves, scores and config
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from filelock import Timeout

from advnets.errors import CheckpointError, RunBusyError, RunError, WriteError, warn_user
from advnets.files import created_folder, file_lock, write_atomically, write_json
from advnets.run_records import (
    FORMAT,
    config_record,
    event_records,
    score_records,
    unreadable_file_error,
)

_STEP = re.compile(r"step-(\d{8,18})")


class RunDirectory:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file: Path = path / "config.json"
        self.events_file: Path = path / "events.jsonl"
        self.scores_file: Path = path / "scores.json"
        self.samples: Path = path / "samples"
        self.checkpoints: Path = path / "checkpoints"
        self.unfinished_file: Path = path / ".unfinished"

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    @classmethod
    def existing(cls, path: Path) -> RunDirectory:
        """Open the directory of an existing run.

        Args:
            path: the run directory.

        Raises:
            RunError: there is no such run.
        """
        run = cls(path)
        if run.config_file.name == path.name and path.is_file():
            raise RunError(f"{path} is a file of a run; give the run's directory, {path.parent}")
        if not run.exists:
            raise RunError(
                f"{path} holds no run (it has no config.json); give the directory of one"
            )
        return run

    @property
    def exists(self) -> bool:
        """Whether the directory holds a run.

        Raises:
            RunError: the directory may not be read.
        """
        try:
            return self.config_file.is_file()
        except PermissionError as error:
            raise unreadable_file_error(self.config_file, error) from None
        except (OSError, ValueError):  # not a valid file name
            return False

    @property
    def locked(self) -> bool:
        """Whether a process holds the lock: it trains the run, or is about to start it."""
        lock = self.path / ".lock"
        try:
            if not lock.exists():
                return False
            with file_lock(lock, timeout=0.0):
                return False
        except Timeout:
            return True
        except OSError:
            return False

    @contextmanager
    def lock(self) -> Generator[None]:
        """Lock the directory against other trainings; the lock ends with the process.

        If an error occurs before the run has started, remove the lock, the files of the run, and
        the directory if it was created for it.

        Raises:
            RunBusyError: another process has locked it.
            RunError: the directory or the lock cannot be created.
        """
        lock = self.path / ".lock"
        with ExitStack() as stack:
            # Create the directory.
            try:
                stack.enter_context(created_folder(self.path))
            except (OSError, ValueError) as error:
                raise RunError(
                    f"{self.path} cannot be created as a run directory "
                    f"({getattr(error, 'strerror', error)}); give another directory"
                ) from None

            # Lock it.
            try:
                locked = stack.enter_context(file_lock(lock, timeout=0.0))
            except Timeout:
                raise RunBusyError(
                    f"{self.path} is in use by another process; wait for it, stop it, or give "
                    "another directory"
                ) from None
            except OSError as error:
                raise RunError(
                    f"{self.path} cannot be locked ({error.strerror}); make it writable, or give "
                    "another directory"
                ) from None
            if not locked:
                warn_user(
                    f"the file system of {self.path} cannot lock files; do not start a second "
                    "process on this run"
                )

            # Remove an unfinished run after an error.
            try:
                yield
            except BaseException:
                if not self.exists:
                    self._remove_unfinished()
                    with suppress(OSError):  # some systems cannot remove an open file
                        lock.unlink()
                raise

    def begin(self) -> None:
        """Mark the directory as one of an unfinished run, until `write_config` makes it a run.

        Files of an unfinished run that a killed process left are removed first.

        Raises:
            RunError: the directory has files of a run whose config.json is absent.
            WriteError: the directory cannot be written.
        """
        self._remove_unfinished()
        if self.checkpoint_files() or self.events_file.exists():
            raise RunError(
                f"{self.path} holds files of a run without its config.json; restore that file, or "
                "give another directory"
            )
        try:
            self.unfinished_file.touch()
        except OSError as error:
            raise WriteError(self.unfinished_file, error) from None

    def _remove_unfinished(self) -> None:
        if self.unfinished_file.exists():
            self.remove_unstarted()

    def write_config(self, record: Mapping[str, Any]) -> None:
        """Write config.json.

        Args:
            record: the content, which JSON can represent.
        """
        write_json(self.config_file, {"format": FORMAT, **record})
        self.unfinished_file.unlink(missing_ok=True)

    def read_config(self) -> dict[str, Any]:
        """Read config.json and check the types of its first two levels.

        Raises:
            RunError: the file is damaged, or of another version.
        """
        return config_record(self.config_file)

    def remove_unstarted(self) -> None:
        """Remove the files of a run that failed before its first step."""
        parts = [*self.path.glob(".*.part"), *self.checkpoints.glob(".*.part")]
        files = [self.config_file, self.events_file, self.unfinished_file]
        for file in (*files, *self.checkpoint_files(), *parts):
            file.unlink(missing_ok=True)
        for folder in (self.checkpoints, self.samples):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def append_event(self, event: Mapping[str, Any]) -> None:
        """Append an event to events.jsonl.

        Args:
            event: an event with `kind` and `step`.

        Raises:
            WriteError: the disk is full or the file cannot be written.
        """
        try:
            with self.events_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")
        except OSError as error:
            raise WriteError(self.events_file, error) from None

    def events(self) -> list[dict[str, Any]]:
        """Return the events of events.jsonl; a line that was cut off or is invalid is skipped.

        Raises:
            RunError: the file cannot be read.
        """
        return event_records(self.events_file)

    def truncate_events(self, step: int) -> int:
        """Remove the events after a step from events.jsonl.

        Args:
            step: the last step whose events are kept.

        Returns:
            The number of steps between it and the last removed event; 0 if none was removed.
        """
        events = self.events()
        text = "".join(json.dumps(e) + "\n" for e in events if e.get("step", 0) <= step)
        write_atomically(self.events_file, lambda part: part.write_text(text, "utf-8"))
        return max([0, *(event.get("step", 0) - step for event in events)])

    def add_scores(
        self, records: Sequence[Mapping[str, Any]], identity: Callable[[Mapping[str, Any]], object]
    ) -> None:
        """Add records to scores.json, in place of older ones of the same `identity`.

        The file has a lock of its own, so that several processes can evaluate a run in training.

        Args:
            records: records of scores.
            identity: a function of a record, with equal results for records that replace each
                other.

        Raises:
            RunError: a record holds NaN or infinity.
            WriteError: the run directory cannot be written.
        """
        for record in records:
            if invalid := [name for name, value in record.items() if _is_not_finite(value)]:
                raise RunError(
                    f"the metric {record['metric']} has {invalid[0]} {record[invalid[0]]}, which "
                    "is not a score; nothing was saved: evaluate with more --num-samples"
                )
        try:
            with file_lock(self.path / ".scores.lock"):
                replaced = {identity(record) for record in records}
                others = [old for old in self.scores() if identity(old) not in replaced]
                write_json(self.scores_file, [*others, *records])
        except OSError as error:
            raise WriteError(self.scores_file, error) from None

    def scores(self) -> list[dict[str, Any]]:
        """Return the records of scores.json, oldest first.

        Raises:
            RunError: the file cannot be read, or does not hold records.
        """
        return score_records(self.scores_file)

    def checkpoint_file(self, step: int) -> Path:
        """Return the path of the checkpoint of a step.

        Args:
            step: step of the checkpoint.
        """
        return self.checkpoints / f"step-{step:08d}.safetensors"

    def sample_file(self, step: int) -> Path:
        """Return the path of the grid of samples of a step.

        Args:
            step: step of the grid.
        """
        return self.samples / f"step-{step:08d}.png"

    def sample_files(self) -> dict[int, Path]:
        """Return the grids of samples by their steps, oldest first."""
        return self._by_step(self.samples, ".png")

    def checkpoint_files(self) -> list[Path]:
        """Return all checkpoints, oldest first."""
        return list(self.checkpoints_by_step().values())

    def checkpoints_by_step(self) -> dict[int, Path]:
        """Return all checkpoints by their steps, oldest first."""
        return self._by_step(self.checkpoints, ".safetensors")

    def _by_step(self, folder: Path, ending: str) -> dict[int, Path]:
        """Return the files of a folder that are named by a step and end so, in order of steps."""
        try:
            files = [file for file in folder.iterdir() if file.suffix == ending]
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise unreadable_file_error(folder, error) from None
        named = {int(match[1]): f for f in files if (match := _STEP.fullmatch(f.stem))}
        return dict(sorted(named.items()))

    def newest_checkpoint(self) -> Path:
        """Return the newest checkpoint.

        Raises:
            CheckpointError: there is none.
        """
        files = self.checkpoint_files()
        if not files:
            raise CheckpointError(
                f"{self.path} holds no checkpoint yet; train it, with --resume if it was started"
            )
        return files[-1]

    def quarantine_checkpoint(self, checkpoint: Path) -> Path:
        """Rename a checkpoint that cannot be used, so that it is ignored; return its new path.

        Args:
            checkpoint: the file.

        Raises:
            WriteError: the folder cannot be written.
        """
        renamed = checkpoint.with_name(f"{checkpoint.name}.unusable")
        try:
            return checkpoint.replace(renamed)
        except OSError as error:
            raise WriteError(checkpoint, error) from None

    def prune_checkpoints(self, keep: int | Literal["all"], also: Collection[Path] = ()) -> None:
        """Remove checkpoints, except for the newest `keep` and those in `also`, and partial files.

        Args:
            keep: number of checkpoints, or "all".
            also: files that are kept in any case.
        """
        files = [] if keep == "all" else self.checkpoint_files()[:-keep]
        old = [file for file in files if file not in also]
        for file in (*old, *self.checkpoints.glob("*.part")):
            file.unlink(missing_ok=True)


def _is_not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)

"""The ways in which rules files come to a server and change under it."""

import os
from pathlib import Path


class RulesFolder:
    """A folder with one rules file. `publish` changes it in the way that the subclass is about."""

    env: dict[str, str] = {}

    def __init__(self, base: Path):
        self.base = base
        self.generation = 0
        base.mkdir(parents=True)

    @property
    def config(self) -> Path | None:
        """What `--config` is given; None if the environment names the folder."""
        return self.base

    def publish(self, text: str) -> None:
        raise NotImplementedError


class Renamed(RulesFolder):
    """A new file is written and renamed over the old one."""

    def publish(self, text: str) -> None:
        draft = self.base.parent / "draft.yaml"
        draft.write_text(text)
        draft.rename(self.base / "rules.yaml")


class WrittenInPlace(RulesFolder):
    """The file is emptied and written piece by piece, as editors and copies do."""

    def publish(self, text: str) -> None:
        half = len(text) // 2
        with (self.base / "rules.yaml").open("w") as file:
            for piece in (text[:half], text[half:]):
                file.write(piece)
                file.flush()


class ConfigMap(RulesFolder):
    """Kubernetes' way: the file is a link through `..data`, which is swapped for another folder."""

    def publish(self, text: str) -> None:
        _swap_data(self, self.base, text)


class RuntimeConfigMap(RulesFolder):
    """The same at the place where the environment of the reference puts it (Istio's and Contour's sample)."""

    def __init__(self, base: Path):
        super().__init__(base / "ratelimit" / "config")
        self.env = {
            "RUNTIME_ROOT": str(base),
            "RUNTIME_SUBDIRECTORY": "ratelimit",
            "RUNTIME_WATCH_ROOT": "false",
            "RUNTIME_IGNOREDOTFILES": "true",
        }

    config = None

    def publish(self, text: str) -> None:
        _swap_data(self, self.base, text)


class RuntimeRoot(RulesFolder):
    """The reference's default: RUNTIME_ROOT is a link that is replaced."""

    config = None

    def __init__(self, base: Path):
        super().__init__(base)
        self.env = {"RUNTIME_ROOT": str(base / "current"), "RUNTIME_SUBDIRECTORY": "ratelimit"}

    def publish(self, text: str) -> None:
        self.generation += 1
        version = self.base / f"v{self.generation}"
        folder = version / "ratelimit" / "config"
        folder.mkdir(parents=True)
        (folder / "rules.yaml").write_text(text)
        _link(self.base / "current", version)


WAYS = [Renamed, WrittenInPlace, ConfigMap, RuntimeConfigMap, RuntimeRoot]


def _swap_data(folder: RulesFolder, base: Path, text: str) -> None:
    folder.generation += 1
    version = base / f"..v{folder.generation}"
    version.mkdir()
    (version / "rules.yaml").write_text(text)
    old = (base / "..data").resolve()
    _link(base / "..data", Path(version.name))
    file = base / "rules.yaml"
    if not file.is_symlink():
        file.symlink_to("..data/rules.yaml")
    if old.name.startswith("..v"):
        (old / "rules.yaml").unlink()
        old.rmdir()


def _link(link: Path, target: Path) -> None:
    """Points `link` to `target` in one step."""
    draft = link.with_name(f"{link.name}-draft")
    os.symlink(target, draft)
    os.replace(draft, link)

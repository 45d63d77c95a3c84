"""Put a card and its edit on the Hub, in one commit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from editkit.errors import EditkitError
from editkit.model.checkpoints.source import HUB_ID

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

README = "README.md"


@dataclass(frozen=True)
class Push:
    """What is to be put where.

    Attributes:
        repository: `ORG/NAME`.
        operations: all that the commit does: the card first, then the edit.
        message: of the commit.
    """

    repository: str
    operations: tuple[CommitOperationAdd, ...]
    message: str

    @classmethod
    def of(cls, repository: str, card: str, edit: Path) -> Push:
        """The push of a card and an edit file. Nothing is sent.

        Raises:
            EditkitError: that is no name of a repository.
        """
        from huggingface_hub import CommitOperationAdd

        check_repository(repository)
        files: tuple[tuple[str, bytes | Path], ...] = ((README, card.encode()), (edit.name, edit))
        return cls(repository, tuple(CommitOperationAdd(name, content) for name, content in files), f"Add {edit.name}")

    @property
    def told(self) -> list[str]:
        """One line for each operation: what, and how many bytes."""
        return [f"{self.repository}/{each.path_in_repo}: {each.upload_info.size:,} bytes" for each in self.operations]

    def send(self, force: bool = False, endpoint: str | None = None) -> str:
        """Make the repository, and the commit in it.

        Args:
            force: add to a repository that is there already.
            endpoint: another place than huggingface.co.

        Returns:
            The address of the commit.

        Raises:
            EditkitError: the repository is there already, nobody is logged in, or the Hub cannot be reached.
        """
        from huggingface_hub import HfApi

        api = HfApi(endpoint=endpoint)
        try:
            api.create_repo(self.repository, repo_type="model", exist_ok=force)
            done = api.create_commit(
                self.repository, list(self.operations), commit_message=self.message, repo_type="model"
            )
        except Exception as error:  # the hub raises its own, httpx's and the system's errors
            raise EditkitError(f"--push {self.repository}: {_why(error)}") from error
        return done.commit_url


def check_repository(repository: str) -> None:
    """Refuse what is no name of a repository.

    Raises:
        EditkitError: so.
    """
    if not HUB_ID.fullmatch(repository):
        raise EditkitError(f"--push {repository}: expected the name of a repository, such as org/name")


def _why(error: Exception) -> str:
    """What went wrong and what to do, in one line."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return "the Hub knows no such login; run `hf auth login`, or set HF_TOKEN"
    if status == 403:
        return "this login may not write there; choose another name, or a token that may write"
    if status == 409:
        return "is there already; --force adds to it and replaces its card"
    text = " ".join(str(error).split()) or type(error).__name__
    return f"the Hub did not take it ({text[:200]}); check the connection and the name"

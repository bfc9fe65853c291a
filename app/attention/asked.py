"""What a page has asked for: an answer that comes after a newer question is dropped."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Asked:
    """Counts of a page's questions. All of its events have this same object, so that one that is
    under way sees it change."""

    clips: int = 0
    """Clips that were to be opened."""
    opened: int = 0
    """The last of them that was opened or refused."""
    views: int = 0
    """Views of an opened clip: its blocks, its action, one of its heads."""
    head: tuple[int, str] | None = None
    """(layer, heads) that were chosen while a clip is being opened; None if none were."""

    def clip(self) -> int:
        """Begins to open a clip, and returns its number."""
        self.clips += 1
        return self.clips

    def end(self, clip: int) -> bool:
        """Whether a clip that was opened or refused is still the last one."""
        if clip == self.clips:
            self.opened, self.head = clip, None
        return clip == self.clips

    @property
    def is_opening(self) -> bool:
        """Whether a clip is being opened: then the menus still belong to the one before."""
        return self.opened != self.clips

    def now(self) -> tuple[int, int, int]:
        """Differs from what it was before where something newer was asked for or opened."""
        return self.clips, self.opened, self.views

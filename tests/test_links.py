"""Every relative link and anchor of the pages leads somewhere, and every page has a line in the index."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from enaction.experiments import EXPERIMENTS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
CODE = sorted(
    path for room in ("src", "tests", "studies", "benchmarks", "examples") for path in (ROOT / room).rglob("*.py")
)

FENCE = re.compile(r"^(```+).*?^\1\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
MENTION = re.compile(r"\bdocs/(?:[\w.-]+/)*[\w.-]+\.(?:md|png)")


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page; repeated ones are numbered from 1."""
    seen: Counter[str] = Counter()
    anchors = set()
    for heading in re.findall(r"^#{1,6} +(.+?)\s*$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        anchors.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return anchors


def _dead(page: Path) -> list[str]:
    """The links of a page that lead nowhere, relative ones only."""
    dead = []
    for target in LINK.findall(re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text(encoding="utf-8")))):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and (path.suffix != ".md" or anchor not in _anchors(path))):
            dead.append(target)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert _dead(page) == []


def test_a_dead_file_and_a_dead_anchor_are_found(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# One `two`: three\n\n## Same\n\n## Same\n\n```\n# no heading\n```\n")
    (tmp_path / "a.md").write_text(
        "[a](b.md) [b](b.md#one-two-three) [c](b.md#same-1) [d](https://example.org/x) ![i](none.png)\n"
        "[e](c.md) [f](b.md#same-2) [g](b.md#no-heading) [h](#here) `[j](code.md)`\n"
    )
    assert _dead(tmp_path / "a.md") == ["none.png", "c.md", "b.md#same-2", "b.md#no-heading", "#here"]


def test_every_page_that_is_named_in_text_or_code_exists() -> None:
    """`docs/zoo.md` in a docstring or between backticks is a link too, for who reads it."""
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (*PAGES, *CODE)
        for name in MENTION.findall(path.read_text(encoding="utf-8"))
        if not (ROOT / name).is_file() and "NAME" not in name and path.name != "CHANGELOG.md"
    }
    assert missing == set()


def test_the_index_lists_every_page_once() -> None:
    targets = Counter(
        (DOCS / target).resolve()
        for target in LINK.findall((DOCS / "README.md").read_text(encoding="utf-8"))
        if "://" not in target
    )
    for page in set(DOCS.rglob("*.md")) - {DOCS / "README.md"}:
        assert targets[page] == 1, f"{page.relative_to(DOCS)}: {targets[page]} lines in docs/README.md"


def test_the_readme_and_the_reference_list_each_experiment() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \| .* \| \[page\]", readme, re.MULTILINE)
    assert sorted(listed) == sorted(EXPERIMENTS)
    pages = (DOCS / "studies.md").read_text(encoding="utf-8")
    assert [page.name for page in sorted((DOCS / "experiments").glob("*.md")) if f"/{page.name}" not in pages] == []

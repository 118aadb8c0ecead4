"""E3: is the default Assistant special? Models sample under system-prompt personas and read the resulting texts.

Question: is text that a model wrote under a persona its own only while that persona is requested; is this more than
what any reader gains from the right instruction; and has the default Assistant the lowest entropy?
Procedure: every model of the first and the last stage answers under each persona and without one. Its author reads each
of these texts under each persona and without one: a square of conditions, the persona of the text by the persona
requested. The other models' text of a persona is read under that persona. Nulls: the base stage, and the personas'
labels permuted within prompts.
Source: From Simulation to Enaction (arXiv 2605.25459), its Fig. 7, and the first author's running mean of surprise.

`NOBODY` is the conversation without a system turn of ours: the default Assistant, with whatever system turn a template
inserts by itself. A model without a template reads a system turn as plain text before the question. A model whose
template refuses or drops system turns has no persona and is left out with a note.

Axes: see `analysis`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, field_validator

from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.experiments.base import Experiment
from enaction.experiments.persona import analysis, page
from enaction.experiments.persona.texts import NOBODY, Spoken, Under, text_of
from enaction.findings import Findings
from enaction.page import Page
from enaction.passages import Prompt, thinned
from enaction.study.config import Study
from enaction.study.names import require_distinct, require_name
from enaction.study.planning import Plan, Text
from enaction.study.store import Cell
from enaction.world import lexicon

# What a person might ask of a real assistant: far from it and near it, in tone, trade and manner.
ASSISTANT_PERSONAS = {
    "detective": "You are a weary private detective in a rainy city. Answer everything as this detective would.",
    "pirate": "You are a boisterous pirate captain. Answer everything as this captain would.",
    "sergeant": "You are a strict drill sergeant. Answer everything as this sergeant would.",
    "teacher": "You are a patient primary school teacher. Answer everything as this teacher would.",
    "lawyer": "You are a careful lawyer who weighs every word. Answer everything as this lawyer would.",
}


class Persona(Experiment):
    """Personas that a system prompt requests.

    Attributes:
        personas: name -> system prompt; by default those of the embedded world where prompts are `zoo`, else five that
            a real assistant can be asked to play.
        stages: the study's stages that take part; by default the first and the last with two or more models.
        n_prompts: how many of the study's prompts, spread evenly; null for all.
        curve: lengths of the beginning of a response, tokens, at which the running mean of surprise is given.
    """

    name = "persona"
    title = "Personas"
    asks = (
        "Is text written under a persona the model's own only while the persona is requested, and has the default "
        "Assistant the lowest entropy?"
    )

    personas: dict[str, str] | None = None
    stages: list[str] | None = None
    n_prompts: Annotated[int, Field(ge=2)] | None = 24
    curve: tuple[Annotated[int, Field(ge=1)], ...] = (1, 2, 4, 8, 16, 32, 64)

    @field_validator("personas")
    @classmethod
    def _names_are_usable(cls, personas: dict[str, str] | None) -> dict[str, str] | None:
        for name in personas or {}:
            require_name(name, "a persona", is_reserved=True)
            if name == NOBODY:
                raise ValueError(f"'{name}' cannot name a persona: it names the text under none; give another name")
        require_distinct(personas or {}, "a persona")
        if personas is not None and len(personas) < 2:
            raise ValueError("two personas or more are needed, so that each can be read under another")
        return personas

    def turns(self, study: Study) -> dict[str, str]:
        """Name of a persona -> system prompt."""
        if self.personas is not None:
            return self.personas
        if study.prompts != "zoo":
            return ASSISTANT_PERSONAS
        return {name: lexicon.PERSONA_TURNS[0].format(persona=name) for name in lexicon.PERSONAS}

    def groups(self, study: Study) -> dict[str, list[str]]:
        """The stages that take part, with their models."""
        names = list(study.groups())
        return study.groups_named([*names[:1], *names[-1:]] if self.stages is None else self.stages)

    def plan(self, study: Study, prompts: Sequence[Prompt]) -> Plan:
        """Every model's text under every persona, read by the model under every persona and by others under its own."""
        turns = self.turns(study)
        personas = [NOBODY, *turns]
        count = len(thinned(prompts, self.n_prompts)) * study.sampling.per_prompt
        of_text: dict[str, Any] = {"count": count, "n_prompts": self.n_prompts}
        texts: dict[str, Text] = {}
        cells: list[Cell] = []
        for members in self.groups(study).values():
            for model, persona in itertools.product(members, personas):
                own = text_of(model, persona, persona)
                if persona != NOBODY:
                    texts[own] = Spoken(name=own, model=model, turn=turns[persona], **of_text)
                for requested in personas:
                    name = text_of(model, persona, requested)
                    cells.append(Cell(model, name, "assistant"))
                    if requested != persona:
                        turn = turns.get(requested)
                        texts[name] = Under(name=name, model=None, needs=(own,), source=own, turn=turn, **of_text)
                cells += [Cell(reader, own, "assistant") for reader in members if reader != model]
        return Plan(texts, cells, frozenset(cell for cell in cells if cell.author in texts))

    def analyse(self, data: Data, ledger: Ledger) -> None:
        """Write all findings, stage by stage."""
        ledger = ledger.at(prompts=data.subset(thinned(data.prompts, self.n_prompts)))
        personas = [NOBODY, *self.turns(data.study)]
        for stage, members in self.groups(data.study).items():
            analysis.analyse(data, ledger.at(stage=stage), members, personas, self.curve)

    def page(self, findings: Findings) -> Page:
        """What the report shows of the personas."""
        return page.page(self.title, self.asks, findings)

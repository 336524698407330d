"""``python -m temporal_replay_gate``: the same command without an installed console script."""

from temporal_replay_gate.main import main

if __name__ == "__main__":
    main()

"""Building blocks of U-DFA in plain PyTorch."""

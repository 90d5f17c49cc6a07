"""The documentation, followed word by word: its pages are executed, and its references compared with the code."""

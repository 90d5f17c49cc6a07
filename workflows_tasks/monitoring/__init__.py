"""How the pipeline is: what is counted, what an operator asks, what is wrong and where to look."""

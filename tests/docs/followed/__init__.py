"""Pages followed word by word, with real servers and workers. Collected only when named, as by `make follow`."""

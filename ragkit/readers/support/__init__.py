"""Support of statements by their sources, sentence by sentence."""

"""From a command line to records: composing, checking, launching, training, and what a person sees of it."""

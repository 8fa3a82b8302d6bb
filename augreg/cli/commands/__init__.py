"""One file a command: its options and what it does.

Each has `add`, which gives the command its parser, and the function that runs. Parsers are built for every call of `augreg`, so
what a command needs is imported when it runs: `ar.` imports at first use, all else within functions.
"""

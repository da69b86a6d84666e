"""From IR to loaded machine code: writing it, assembling it in helper processes, keeping it on disk."""

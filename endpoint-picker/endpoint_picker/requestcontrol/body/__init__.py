"""Reading and rewriting request bodies, pure; `reading` and `rewriting` are for the director, the rest is theirs."""

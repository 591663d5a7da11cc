"""Games: who plays, in which phases, for which losses. An extension is a file here."""

"""From pictures to features: what metrics of two sets compare.

An extractor is named, and knows the hash of its weights: features of unlike extractors are never
to be compared.
"""

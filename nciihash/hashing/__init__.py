"""Decoding and hashing of pictures and videos.

Nothing is imported here: the sandbox's parent must load no decoder.
"""

"""The use cases of `nciihash submit`: open a case of one's own, or one for somebody else."""

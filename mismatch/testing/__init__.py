"""The kit by which authors of plugins check their backbones: `BackboneContract`."""

"""The wireless link, built from Sionna blocks: channels, CSI, equalizers, LDPC and QAM."""

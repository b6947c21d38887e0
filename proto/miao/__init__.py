"""The code generated from the contract in this folder; see the .proto files."""

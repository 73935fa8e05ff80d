"""The messages and stubs of package `interlock.v1`, generated from the protos when the package is built."""

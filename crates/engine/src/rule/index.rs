//! The index over a program's tuples.

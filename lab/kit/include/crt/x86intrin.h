/* Empty on purpose: clang's own pulls in vector types which a kernel header does not need, and which clash with the DDK's. */

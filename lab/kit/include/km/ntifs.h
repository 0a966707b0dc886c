/*
 * The kit has no file-system interface: mingw-w64's ntifs.h defines
 * _REPARSE_DATA_BUFFER a second time, and a network driver wants none of it.
 */
#include "kit_ddk.h"

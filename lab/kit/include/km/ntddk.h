#include "kit_ddk.h"

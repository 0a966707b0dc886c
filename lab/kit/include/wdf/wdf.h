/*
 * KMDF 1.31 for a driver on x64, as far as wdk-sys and the project need it.
 *
 * Types and structures: wdftypes.h, wdfstructs.h. The function table (its enum
 * and one PFN_ type a function) is made from kmdf-1.31.csv when the kit is
 * assembled: wdffunctions.h.
 */
#ifndef KIT_WDF_H
#define KIT_WDF_H

#include "wdftypes.h"
#include "wdfstructs.h"
#include "wdffunctions.h"

/* Owned by the FxDriverEntry stub, filled in at the bind. */
extern const WDFFUNC *WdfFunctions_01031;
extern ULONG WdfFunctionCount;
extern PWDF_DRIVER_GLOBALS WdfDriverGlobals;

#endif
